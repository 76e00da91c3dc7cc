//! Sessions through a worker: where they go, how their ends are passed on, and what a reload does to them.

use crate::edge::{Echo, Edge, PATIENCE, client, line, read};
use lyre::serve::shared::Phase;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DRIVERS: [&str; 2] = ["epoll", "io_uring"];

fn servers(list: &[&Echo]) -> String {
    let list: Vec<String> = list.iter().map(|echo| format!("\"{}\"", echo.address)).collect();
    format!("servers = [{}]\n", list.join(", "))
}

/// Taken, and nobody listens there.
fn dead() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn bytes_pass_both_ways_and_each_half_closes_by_itself() {
    let echo = Echo::start("one");
    for driver in DRIVERS {
        let edge = Edge::start(&servers(&[&echo]), driver, 1);
        let mut stream = edge.connect();
        assert_eq!(line(&mut stream).unwrap(), "one");
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || {
                writer.write_all(sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            stream.read_to_end(&mut received).unwrap();
        });
        // The last word came after our end had reached the server.
        assert!(received.strip_suffix(b"bye").is_some_and(|echoed| echoed == sent), "{driver}");
        edge.wait("ended", |edge| edge.metric("lyre_tcp_sessions{") == 0);
        assert_eq!(edge.metric("lyre_tcp_received_bytes_total"), 3_000_000);
        assert_eq!(edge.metric("lyre_tcp_sent_bytes_total"), 3_000_007);
        assert_eq!((edge.metric("lyre_tcp_sessions_total"), edge.metric("lyre_tcp_failed_total")), (1, 0));
        assert_eq!(edge.metric("lyre_tcp_server_sessions_total"), 1);
    }
}

#[test]
fn a_broken_end_breaks_the_other_one() {
    for driver in DRIVERS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let keys = format!("servers = [\"{}\"]\ncheck.interval = \"1h\"\n", listener.local_addr().unwrap());
        let edge = Edge::start(&keys, driver, 1);
        edge.wait("checked", |edge| edge.state(0) == "up");
        drop(listener.accept().unwrap()); // the check's
        let mut stream = edge.connect();
        let (mut server, _) = listener.accept().unwrap();
        // A reset before the first byte may be taken for a failed connect, and tried again.
        server.write_all(b"here\n").unwrap();
        assert_eq!(line(&mut stream).unwrap(), "here");
        // Zero linger: a reset.
        socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        assert_eq!(read(&mut stream, &mut [0]), Err(ErrorKind::ConnectionReset));
        edge.wait("counted", |edge| edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"upstream\"") == 1);
    }
}

#[test]
fn first_takes_the_next_server_when_one_does_not_answer_and_nobody_notices() {
    let (one, two) = (Echo::start("one"), Echo::start("two"));
    let keys = format!("{}mode = \"first\"\ncheck = {{ interval = \"1h\", fall = 1 }}\n", servers(&[&one, &two]));
    let edge = Edge::start(&keys, "io_uring", 2);
    edge.wait("checked", |edge| edge.state(0) == "up" && edge.state(1) == "up");
    (0..4).for_each(|_| assert_eq!(edge.first_line().unwrap(), "one"));
    one.stop();
    // The check has not seen it yet.
    assert_eq!(edge.first_line().unwrap(), "two");
    assert!(edge.metric("lyre_tcp_server_failures_total") >= 1);
    edge.wait("found out by the failure", |edge| edge.state(0) == "down");
    assert_eq!(edge.first_line().unwrap(), "two");
}

#[test]
fn least_connections_are_even_and_a_source_stays() {
    let echoes = [Echo::start("one"), Echo::start("two")];
    let list = servers(&[&echoes[0], &echoes[1]]);
    let edge = Edge::start(&list, "io_uring", 2);
    edge.wait("checked", |edge| edge.state(0) == "up" && edge.state(1) == "up");
    let mut held = Vec::new();
    let mut names = Vec::new();
    for _ in 0..10 {
        let mut stream = edge.connect();
        names.push(line(&mut stream).unwrap());
        held.push(stream);
    }
    assert_eq!(names.iter().filter(|name| *name == "one").count(), 5, "{names:?}");
    assert_eq!(edge.metric("lyre_tcp_sessions{"), 10);

    let edge = Edge::start(&format!("{list}mode = \"source\"\n"), "io_uring", 2);
    let first = edge.first_line().unwrap();
    (0..10).for_each(|_| assert_eq!(edge.first_line().unwrap(), first));
}

#[test]
fn without_a_server_a_client_is_reset_at_once() {
    let (_taken, dead) = dead();
    let edge = Edge::start(&format!("servers = [\"{dead}\"]\ncheck.fall = 1\n"), "io_uring", 1);
    edge.wait("found down", |edge| edge.state(0) == "down");
    let since = Instant::now();
    assert_eq!(edge.first_line(), Err(ErrorKind::ConnectionReset));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"internal\",reason=\"no_server\"}"), 1);
}

#[test]
fn a_writer_is_left_when_it_is_lost_with_all_its_sessions_and_never_returned_to() {
    let two = Echo::start("two");
    for driver in DRIVERS {
        let one = Echo::start("one");
        let list = servers(&[&one, &two]);
        let keys = format!("{list}mode = \"single-writer\"\ncheck = {{ interval = \"100ms\", fall = 2, rise = 1 }}\n");
        let edge = Edge::start(&keys, driver, 2);
        // Also before the first check: they wait for it.
        let mut held: Vec<_> = (0..8).map(|_| edge.connect()).collect();
        held.iter_mut().for_each(|stream| assert_eq!(line(stream).unwrap(), "one"));
        one.stop();
        // The old sessions' server still has them open: it is us who end them.
        held.iter_mut().for_each(|stream| assert_eq!(read(stream, &mut [0]), Err(ErrorKind::ConnectionReset)));
        assert_eq!(edge.first_line().unwrap(), "two");
        assert_eq!(edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"upstream\",reason=\"lost\"}"), 8);
        let listener = TcpListener::bind(one.address).unwrap();
        edge.wait("it is back", |edge| edge.state(0) == "up");
        (0..8).for_each(|_| assert_eq!(edge.first_line().unwrap(), "two"));
        assert_eq!(edge.metric("lyre_tcp_writer_changes_total"), 2);
        drop(listener);
    }
}

#[test]
fn a_silent_session_ends_after_the_idle_timeout_and_others_do_not() {
    let echo = Echo::start("one");
    let edge = Edge::start(&format!("{}idle_timeout = \"1s\"\n", servers(&[&echo])), "io_uring", 1);
    let (mut idle, mut busy) = (edge.connect(), edge.connect());
    line(&mut idle).unwrap();
    line(&mut busy).unwrap();
    let mut ended = false;
    let deadline = Instant::now() + PATIENCE;
    idle.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while !ended {
        assert!(Instant::now() < deadline);
        busy.write_all(b"x").unwrap();
        busy.read_exact(&mut [0]).unwrap();
        ended = read(&mut idle, &mut [0]) == Err(ErrorKind::ConnectionReset);
    }
    assert_eq!(edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"internal\",reason=\"idle\"}"), 1);
    busy.write_all(b"x").unwrap();
    busy.read_exact(&mut [0]).unwrap();
}

#[test]
fn only_those_on_the_list_may_connect_and_only_as_many_as_a_server_takes() {
    let echo = Echo::start("one");
    let edge = Edge::start(&format!("{}allow = [\"127.0.0.2\"]\n", servers(&[&echo])), "io_uring", 1);
    assert_eq!(edge.first_line(), Err(ErrorKind::ConnectionReset));
    assert_eq!(edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"downstream\",reason=\"not_allowed\"}"), 1);

    let edge = Edge::start(&format!("{}max_connections_per_server = 1\n", servers(&[&echo])), "io_uring", 2);
    let mut first = edge.connect();
    assert_eq!(line(&mut first).unwrap(), "one");
    assert_eq!(edge.first_line(), Err(ErrorKind::ConnectionReset));
    drop(first);
    edge.wait("its place is free", |edge| edge.metric("lyre_tcp_server_sessions{") == 0);
    assert_eq!(edge.first_line().unwrap(), "one");
}

#[test]
fn a_reload_keeps_sessions_and_a_stop_lets_them_finish() {
    let (one, two) = (Echo::start("one"), Echo::start("two"));
    for driver in DRIVERS {
        let mut edge = Edge::start(&servers(&[&one]), driver, 2);
        let mut held: Vec<_> = (0..4).map(|_| edge.connect()).collect();
        held.iter_mut().for_each(|stream| assert_eq!(line(stream).unwrap(), "one"));
        edge.reload(&servers(&[&two]));
        edge.wait("new sessions go elsewhere", |edge| edge.first_line().unwrap() == "two");
        edge.worker.shared.set_phase(Phase::Stopping);
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(edge.address)
            .is_ok_and(|mut stream| stream.read(&mut [0]).is_ok_and(|n| n > 0))
        {
            assert!(Instant::now() < deadline);
        }
        for stream in &mut held {
            stream.write_all(b"still here").unwrap();
            let mut echoed = [0; 10];
            stream.read_exact(&mut echoed).unwrap();
            assert_eq!(&echoed, b"still here");
        }
    }
}

/// nginx as a server that says what a PROXY header told it.
struct Nginx {
    child: Child,
    address: SocketAddr,
    directory: std::path::PathBuf,
}

impl Nginx {
    fn start() -> Option<Nginx> {
        // Of an address that nobody else here uses, so that the port is still free when nginx comes to it.
        let address = TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
        let directory =
            std::env::temp_dir().join(format!("lyre-stream-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir(&directory).unwrap();
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
             pid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nstream {{ server {{ listen {address} proxy_protocol; \
             return \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port\\n\"; }} }}\n",
            directory.display()
        );
        std::fs::write(directory.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        let command = command.arg("-c").arg(directory.join("nginx.conf")).arg("-e").arg(directory.join("error.log"));
        let mut child = command.stderr(Stdio::null()).spawn().ok()?;
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Nginx { child, address, directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn nginx_learns_the_client_from_both_versions_of_the_proxy_header() {
    let Some(nginx) = Nginx::start() else {
        println!(
            "SKIPPED: nginx_learns_the_client_from_both_versions_of_the_proxy_header: no nginx with its stream module"
        );
        return;
    };
    for version in ["v1", "v2"] {
        let keys = format!("servers = [\"{}\"]\nproxy_protocol = \"{version}\"\n", nginx.address);
        let edge = Edge::start(&keys, "io_uring", 1);
        let mut stream = client(edge.address);
        let told = line(&mut stream).unwrap();
        let port = stream.local_addr().unwrap().port();
        assert_eq!(told, format!("127.0.0.1 {port} {}", edge.address.port()), "{version}");
    }
}
