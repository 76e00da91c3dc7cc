use super::*;
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use crate::net::testing::*;
use glommio::spawn_local;
use rustls_pki_types::ServerName;
use std::future::poll_fn;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// Made once: RSA keys take their time.
static ECDSA: LazyLock<Certificate> = LazyLock::new(|| certificate("ecdsa", &["cloud.example.org"], false));
static RSA: LazyLock<Certificate> = LazyLock::new(|| certificate("rsa", &["cloud.example.org"], true));
static WILD: LazyLock<Certificate> = LazyLock::new(|| certificate("wild", &["*.example.net", "example.net"], false));

fn certificate(name: &str, hosts: &[&str], is_rsa: bool) -> Certificate {
    let algorithm = if is_rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
    let mut params = rcgen::CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let chain = params.self_signed(&key).unwrap().pem();
    Certificate { name: name.into(), chain: chain.into(), key: key.serialize_pem().into() }
}

fn acceptor() -> Acceptor {
    let certificates = [ECDSA.clone(), RSA.clone(), WILD.clone()];
    Acceptor::new(server_config(&certificates, ticketer().unwrap(), PROTOCOLS).unwrap())
}

fn connector() -> Connector {
    Connector::new(Trust::Roots(ECDSA.chain.clone()), &[b"http/1.1"]).unwrap()
}

fn cloud() -> ServerName<'static> {
    ServerName::try_from("cloud.example.org").unwrap()
}

/// Both ends of a TLS connection on `driver`: client, server.
async fn tls_pair(driver: &Driver) -> (Stream, Stream) {
    let (near, far) = pair(driver).await;
    let server = spawn_local(async move { acceptor().accept(far).await.unwrap() });
    let (client, info) = connector().connect(near, cloud()).await.unwrap();
    assert_eq!(info.version, Version::Tls13);
    let (server, info) = server.await;
    assert_eq!(info.sni.as_deref(), Some("cloud.example.org"));
    assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
    (client, server)
}

/// Serves connections one after another: says what was negotiated, echoes lines, ends when the client does.
fn serve(driver: &Driver, acceptor: Acceptor, connections: usize) -> (SocketAddr, glommio::Task<Vec<TlsInfo>>) {
    let (fd, address) = listening();
    let listener = driver.listen(fd).unwrap();
    let task = spawn_local(async move {
        let mut infos = Vec::new();
        for _ in 0..connections {
            let (socket, _) = listener.accept().await.unwrap().unwrap();
            let Ok((stream, info)) = acceptor.accept(socket).await else { continue };
            infos.push(info);
            stream.send(b"ready\n".to_vec()).await.0.unwrap();
            while let Ok(bytes) = stream.recv().await {
                if bytes.is_empty() || stream.send_bytes(bytes).await.is_err() {
                    break;
                }
            }
            stream.shutdown_write().await;
        }
        infos
    });
    (address, task)
}

/// `openssl s_client` with `arguments`; closes after the greeting. Answers all it printed.
fn openssl(address: SocketAddr, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    let mut out = io::BufReader::new(child.stdout.take().unwrap());
    while out.read_line(&mut printed).is_ok_and(|count| count > 0) && !printed.ends_with("ready\n") {}
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(b"Q\n");
    }
    let _ = out.read_to_string(&mut printed);
    let _ = child.wait();
    printed
}

/// Runs `work` on a thread while the executor goes on.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}

#[test]
fn certificates_are_chosen_by_name_and_by_what_the_client_verifies() {
    const CASES: &[(&[&str], &str, &str)] = &[
        (&["-tls1_3", "-servername", "cloud.example.org"], "ecdsa", "TLSv1.3"),
        (&["-tls1_3", "-servername", "CLOUD.example.org", "-sigalgs", "rsa_pss_rsae_sha256"], "rsa", "TLSv1.3"),
        (&["-tls1_2", "-servername", "cloud.example.org"], "ecdsa", "TLSv1.2"),
        (&["-tls1_2", "-servername", "cloud.example.org", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], "rsa", "TLSv1.2"),
        (&["-servername", "files.example.net"], "wild", "TLSv1.3"),
        (&["-servername", "example.net"], "wild", "TLSv1.3"),
        (&["-servername", "a.b.example.net"], "ecdsa", "TLSv1.3"),
        (&["-servername", "unknown.test"], "ecdsa", "TLSv1.3"),
        (&["-noservername", "-sigalgs", "rsa_pss_rsae_sha256"], "rsa", "TLSv1.3"),
    ];
    on_each_driver(|driver| async move {
        let (address, served) = serve(&driver, acceptor(), CASES.len());
        let printed =
            aside(move || CASES.iter().map(|(arguments, ..)| openssl(address, arguments)).collect::<Vec<_>>()).await;
        let infos = served.await;
        assert_eq!(infos.len(), CASES.len());
        for (((arguments, name, version), printed), info) in CASES.iter().zip(printed).zip(infos) {
            assert!(printed.contains(&format!("subject=CN = {name}\n")), "{arguments:?}: {printed}");
            assert_eq!(info.version.as_str(), *version);
            let asked = arguments.iter().position(|word| *word == "-servername").map(|at| arguments[at + 1]);
            assert_eq!(info.sni.as_deref().map(str::to_lowercase), asked.map(str::to_lowercase));
        }
    });
}

#[test]
fn old_versions_and_weak_suites_are_refused() {
    on_each_driver(|driver| async move {
        let (address, served) = serve(&driver, acceptor(), 2);
        let printed = aside(move || {
            let old = openssl(address, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
            old + &openssl(address, &["-tls1_2", "-cipher", "AES128-SHA"])
        });
        assert!(!printed.await.contains("ready"));
        assert!(served.await.is_empty());
    });
}

#[test]
fn tickets_resume_both_versions() {
    on_each_driver(|driver| async move {
        let (address, served) = serve(&driver, acceptor(), 4);
        aside(move || {
            let store = std::env::temp_dir().join(format!("lyre-session-{}-{:?}", address.port(), address.ip()));
            let store = store.to_str().unwrap();
            for version in ["-tls1_2", "-tls1_3"] {
                openssl(address, &[version, "-sess_out", store]);
                openssl(address, &[version, "-sess_in", store]);
            }
            let _ = std::fs::remove_file(store);
        })
        .await;
        let resumed: Vec<bool> = served.await.iter().map(|info| info.resumed).collect();
        assert_eq!(resumed, [false, true, false, true]);
    });
}

#[test]
fn key_updates_in_the_middle_of_an_exchange_are_followed() {
    on_each_driver(|driver| async move {
        let (address, served) = serve(&driver, acceptor(), 1);
        let lines = aside(move || {
            let mut child = Command::new("openssl")
                .args(["s_client", "-tls1_3", "-connect", &address.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut notes = io::BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            let mut stdin = child.stdin.take().unwrap();
            let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let mut seen = vec![lines.find(|line| line == "ready")];
            for round in ["one", "two", "three"] {
                stdin.write_all(format!("{round}\n").as_bytes()).unwrap();
                seen.push(lines.find(|line| line == round));
                stdin.write_all(b"K\n").unwrap();
                seen.push(notes.find(|line| line == "KEYUPDATE"));
            }
            stdin.write_all(b"Q\n").unwrap();
            let _ = child.wait();
            seen
        });
        let lines: Vec<String> = lines.await.into_iter().flatten().collect();
        assert_eq!(lines, ["ready", "one", "KEYUPDATE", "two", "KEYUPDATE", "three", "KEYUPDATE"]);
        assert_eq!(served.await.len(), 1);
    });
}

#[test]
fn curl_gets_a_response_over_both_versions() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        let server = spawn_local(async move {
            let acceptor = acceptor();
            for _ in 0..2 {
                let (socket, _) = listener.accept().await.unwrap().unwrap();
                let (stream, _) = acceptor.accept(socket).await.unwrap();
                assert!(stream.recv().await.unwrap().starts_with(b"GET / HTTP/1.1"));
                let body = pattern(9, 0, 200_000);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.send(head.into_bytes()).await.0.unwrap();
                stream.send_all(&body).await.unwrap();
                stream.shutdown_write().await;
            }
        });
        let got = aside(move || {
            ["1.2", "1.3"].map(|version| {
                let url = format!("https://{address}/");
                let arguments = ["-sk", "--tls-max", version, "--max-time", "20", &url];
                Command::new("curl").args(arguments).output().unwrap().stdout
            })
        });
        assert!(got.await.iter().all(|body| *body == pattern(9, 0, 200_000)));
        server.await;
    });
}

/// Every receive and send call mixed, receives dropped half way, both directions at once.
#[test]
fn mixed_calls_and_dropped_receives_lose_and_reorder_nothing() {
    on_each_driver(|driver| async move {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut tasks = Vec::new();
        for connection in 0..3u8 {
            let (client, server) = tls_pair(&driver).await;
            for (stream, side) in [(client, 0), (server, 100)] {
                let mut random = fastrand::Rng::with_seed(seed ^ u64::from(connection + side));
                let mut choices = random.fork();
                let total = random.usize(0..2_000_000);
                let (stream, mine, theirs) = (Rc::new(stream), connection + side, connection + 100 - side);
                let sender = stream.clone();
                tasks.push(spawn_local(async move {
                    send_pattern(&sender, mine, total, &mut choices).await;
                    sender.shutdown_write().await;
                    total
                }));
                tasks.push(spawn_local(async move { receive_pattern(&stream, theirs, &mut random).await }));
            }
        }
        let mut balance = [0, 0];
        for (n, task) in tasks.into_iter().enumerate() {
            balance[n % 2] += task.await;
        }
        assert_eq!(balance[0], balance[1], "sent and received");
    });
}

#[test]
fn a_hundred_mebibytes_each_way() {
    const TOTAL: usize = 100 << 20;
    on_each_driver(|driver| async move {
        let (client, server) = tls_pair(&driver).await;
        let mut tasks = Vec::new();
        for stream in [Rc::new(client), Rc::new(server)] {
            let sender = stream.clone();
            tasks.push(spawn_local(async move {
                let piece = pattern(1, 0, 64 * 1024);
                for _ in 0..TOTAL / piece.len() {
                    sender.send_all(&piece).await.unwrap();
                    glommio::yield_if_needed().await;
                }
                sender.shutdown_write().await;
                TOTAL
            }));
            tasks.push(spawn_local(async move {
                let expected = pattern(1, 0, 64 * 1024);
                let mut buffer = vec![0; 64 * 1024];
                let mut total = 0;
                loop {
                    let count = poll_fn(|cx| stream.poll_recv_into(cx, &mut buffer)).await.unwrap();
                    if count == 0 {
                        return total;
                    }
                    let start = total % expected.len();
                    let head = count.min(expected.len() - start);
                    assert!(buffer[..head] == expected[start..start + head]);
                    assert!(buffer[head..count] == expected[..count - head]);
                    total += count;
                }
            }));
        }
        for task in tasks {
            assert_eq!(task.await, TOTAL);
        }
    });
}

#[test]
fn a_fin_without_close_notify_is_no_clean_end() {
    on_each_driver(|driver| async move {
        let (client, server) = tls_pair(&driver).await;
        client.send(b"part".to_vec()).await.0.unwrap();
        client.socket().unwrap().shutdown_write();
        assert_eq!(&*server.recv().await.unwrap(), b"part");
        assert_eq!(server.recv().await.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);

        let (client, server) = tls_pair(&driver).await;
        client.shutdown_write().await;
        assert!(server.recv().await.unwrap().is_empty());
        assert_eq!(poll_fn(|cx| server.poll_recv_into(cx, &mut [0; 9])).await.unwrap(), 0);
        // Half closed: the other direction still works.
        server.send(b"late answer".to_vec()).await.0.unwrap();
        assert_eq!(&*client.recv().await.unwrap(), b"late answer");
    });
}

#[test]
fn a_client_that_speaks_no_tls_gets_an_alert() {
    on_each_driver(|driver| async move {
        let (socket, mut far) = half_pair(&driver);
        far.write_all(b"GET / HTTP/1.1\r\nHost: cloud.example.org\r\n\r\n").unwrap();
        let error = acceptor().accept(socket).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let answer = aside(move || {
            let mut answer = Vec::new();
            let _ = far.read_to_end(&mut answer);
            answer
        });
        assert_eq!(answer.await.first(), Some(&21), "an alert record");
    });
}

#[test]
fn a_client_that_leaves_during_the_handshake_is_an_error() {
    on_each_driver(|driver| async move {
        let (socket, far) = half_pair(&driver);
        drop(far);
        assert!(acceptor().accept(socket).await.is_err());

        let (socket, mut far) = half_pair(&driver);
        far.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(acceptor().accept(socket).await.is_err());
    });
}

#[test]
fn a_burst_of_handshakes_all_succeed() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        let acceptor = Rc::new(acceptor());
        let connector = connector();
        let server = spawn_local(async move {
            let mut tasks = Vec::new();
            for _ in 0..100 {
                let (socket, _) = listener.accept().await.unwrap().unwrap();
                let acceptor = acceptor.clone();
                tasks.push(spawn_local(async move {
                    let (stream, _) = acceptor.accept(socket).await.unwrap();
                    stream.send(b"hi".to_vec()).await.0.unwrap();
                    stream.shutdown_write().await;
                }));
            }
            for task in tasks {
                task.await;
            }
        });
        let clients: Vec<_> = (0..100)
            .map(|_| {
                let (driver, connector) = (driver.clone(), connector.clone());
                spawn_local(async move {
                    let socket = driver.connect(address, None, SOON).await.unwrap();
                    let (stream, _) = connector.connect(socket, cloud()).await.unwrap();
                    assert_eq!(&*stream.recv().await.unwrap(), b"hi");
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
        server.await;
    });
}

#[test]
fn a_client_believes_only_whom_it_should() {
    on_each_driver(|driver| async move {
        use rustls_pki_types::pem::PemObject;
        let der = |certificate: &Certificate| {
            rustls_pki_types::CertificateDer::from_pem_slice(&certificate.chain).unwrap().to_vec()
        };
        let elsewhere = ServerName::try_from("unknown.test").unwrap();
        let cases = [
            (Trust::Roots(ECDSA.chain.clone()), cloud(), true),
            (Trust::Roots(ECDSA.chain.clone()), elsewhere.clone(), false),
            (Trust::Roots(WILD.chain.clone()), cloud(), false),
            (Trust::Pinned(vec![der(&RSA), der(&ECDSA)]), elsewhere.clone(), true),
            (Trust::Pinned(vec![der(&WILD)]), cloud(), false),
            (Trust::Anybody, elsewhere, true),
        ];
        for (trust, name, is_trusted) in cases {
            let (near, far) = pair(&driver).await;
            let server = spawn_local(async move { acceptor().accept(far).await.map(|_| ()) });
            let connector = Connector::new(trust.clone(), &[]).unwrap();
            let result = connector.connect(near, name).await;
            assert_eq!(result.is_ok(), is_trusted, "{trust:?}");
            drop(result);
            let _ = server.await;
        }
    });
}

#[test]
fn unusable_certificates_are_named() {
    let tickets = || ticketer().unwrap();
    assert!(matches!(server_config(&[], tickets(), PROTOCOLS), Err(ConfigError::NoCertificate)));
    let foreign = Certificate { key: RSA.key.clone(), ..ECDSA.clone() };
    let empty = Certificate { chain: Vec::new(), ..ECDSA.clone() };
    let torn = Certificate { key: b"-----BEGIN PRIVATE KEY-----\nAAAA".to_vec(), ..ECDSA.clone() };
    for broken in [foreign, empty, torn] {
        let error = server_config(&[broken], tickets(), PROTOCOLS).err().unwrap();
        assert!(error.to_string().starts_with("ecdsa: "), "{error}");
    }
}

#[test]
fn a_swapped_configuration_serves_the_next_connection() {
    on_each_driver(|driver| async move {
        let acceptor = Rc::new(acceptor());
        for (certificates, is_known) in [(None, true), (Some([WILD.clone()]), false)] {
            if let Some(certificates) = certificates {
                acceptor.swap(server_config(&certificates, ticketer().unwrap(), PROTOCOLS).unwrap());
            }
            let (near, far) = pair(&driver).await;
            let swapped = acceptor.clone();
            let server = spawn_local(async move { swapped.accept(far).await.map(|_| ()) });
            assert_eq!(connector().connect(near, cloud()).await.is_ok(), is_known);
            let _ = server.await;
        }
    });
}

#[test]
fn configurations_are_shared_between_cores() {
    fn shareable<T: Send + Sync>(_: &T) {}
    shareable(&server_config(std::slice::from_ref(&ECDSA), ticketer().unwrap(), PROTOCOLS).unwrap());
    let _: Arc<dyn rustls::server::ProducesTickets> = ticketer().unwrap();
}

#[test]
#[ignore = "a measurement, alone in its process: cargo test idle_memory -- --ignored --nocapture"]
fn idle_memory_of_connections() {
    on_each_driver(|driver| async move {
        let resident = || {
            let pages: usize =
                std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let acceptor = Rc::new(acceptor());
        let connector = connector();
        let mut held = Vec::new();
        let mut before = 0;
        for n in 0..3000 {
            if n == 1000 {
                before = resident();
            }
            let (near, far) = pair(&driver).await;
            let acceptor = acceptor.clone();
            let server = spawn_local(async move { acceptor.accept(far).await.unwrap().0 });
            let (client, _) = connector.connect(near, cloud()).await.unwrap();
            let server = server.await;
            client.send(b"hello".to_vec()).await.0.unwrap();
            assert_eq!(&*server.recv().await.unwrap(), b"hello");
            server.send(b"hello".to_vec()).await.0.unwrap();
            assert_eq!(&*client.recv().await.unwrap(), b"hello");
            assert!(once(server.recv()).await.is_none());
            assert!(once(client.recv()).await.is_none());
            held.push((client, server));
        }
        println!("{:?}: {} bytes for both ends", driver.kind(), (resident() - before) / 2000);
    });
}
