//! The whole way: a client of the edge, the gateway, a tunnel, a real frpc, and an ExApp behind it.

use super::edge::{Client, Edge, PATIENCE, Response};
use super::node::{self, Node, Start};
use super::origin::{Origin, Peer, Request, ok};
use super::peer::{self, Frpc, NEW, OLD, Options, Proxy};
use super::worker;
use lyre::control::status::WorkerState;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

const APP_PORT: u16 = 23_457;

const ALICE: &str = "Cookie: oc_sessionPassphrase=alice\r\n";

/// What AppAPI says of an app that is behind a tunnel: a port of its own host.
fn nextcloud() -> Origin {
    let record = format!(
        r#"{{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":{APP_PORT},
        "routes":[{{"url":"^/public","access_level":0}},{{"url":"^/user","access_level":1}}]}}"#
    );
    Origin::answering(move |request: &Request| match request.path() {
        "/index.php/apps/app_api/harp/exapp-meta?appId=foo" => ok(&record),
        "/index.php/apps/app_api/harp/user-info?appId=foo" => ok(r#"{"user_id":"alice","access_level":1}"#),
        _ => b"HTTP/1.1 401 S\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
    })
}

/// An ExApp: it says back what it was sent, on a kept connection; talks on as a WebSocket would; and has events, the
/// second one when it is told to.
struct ExApp {
    origin: Origin,
    next_event: mpsc::Sender<()>,
}

impl ExApp {
    fn start() -> ExApp {
        let (next_event, told) = mpsc::channel::<()>();
        let told = Arc::new(Mutex::new(told));
        let origin = Origin::start(move |mut peer| while serve(&mut peer, &told).is_some() {});
        ExApp { origin, next_event }
    }

    /// Its frpc, as HaRP's scripts configure it.
    fn frpc(&self, binary: &Path, server: SocketAddr, key: &str, is_v2: bool) -> Frpc {
        let proxies = vec![Proxy::to_address("foo", APP_PORT, self.origin.address)];
        let (address, key) = (server.ip(), key.to_owned());
        let options = Options { address, key, is_v2, is_patient: true, proxies, ..Options::default() };
        Frpc::start(binary, server.port(), &options)
    }
}

fn serve(peer: &mut Peer, told: &Mutex<mpsc::Receiver<()>>) -> Option<()> {
    let request = peer.request()?;
    match request.path() {
        "/user/ws" => {
            let is_alice = request.field("authorization-app-api") == Some("YWxpY2U6VA==");
            let who = if is_alice { "alice" } else { "nobody" };
            peer.send(format!("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello {who}\n"));
            loop {
                let byte = peer.exactly(1)?;
                peer.send(byte);
            }
        }
        "/public/events" => {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            let _ = told.lock().unwrap().recv();
            peer.send("data: 2\n\n");
            None
        }
        _ => {
            let mut said = request.head.clone().into_bytes();
            said.extend(&request.body);
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len()));
            peer.send(said);
            Some(())
        }
    }
}

const EXAPPS: &str = "[exapps]\nshared_key_env = \"EXAPPS_KEY\"\nfrp_listen = \"127.0.0.2:8782\"\nfrp_tls = \"off\"\n";

/// An edge with a server of tunnels; on two cores, so that clients and tunnels often are on different ones.
fn edge(nextcloud: &Origin, driver: &'static str) -> (Edge, SocketAddr) {
    let edge = Edge::start_with(&Origin::config(&[nextcloud], EXAPPS), driver, 2, |settings| {
        settings.exapps.as_mut().unwrap().frp.as_mut().unwrap().listen.set_port(0);
    });
    let server = edge.others[0];
    (edge, server)
}

fn send(client: &mut Client, line: &str, fields: &str, body: &[u8]) {
    client.send(format!("{line} HTTP/1.1\r\nHost: cloud.test\r\n{fields}\r\n").as_bytes());
    client.send(body);
}

fn get(edge: &Edge, path: &str) -> Response {
    let mut client = edge.connect();
    send(&mut client, &format!("GET {path}"), "", b"");
    client.response("GET")
}

/// Until the tunnel is there nobody is, which is not the client's fault.
fn wait_served(edge: &Edge) {
    worker::wait(
        PATIENCE * 3,
        || {
            let status = get(edge, "/exapps/foo/public").status;
            assert!(matches!(status, 200 | 502), "{status}");
            status == 200
        },
        || "no tunnel came up".to_owned(),
    );
}

fn websocket(edge: &Edge) -> Client {
    let mut client = edge.connect();
    let fields = format!(
        "{ALICE}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    send(&mut client, "GET /exapps/foo/user/ws", &fields, b"");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(client.exactly(12), b"hello alice\n");
    client
}

fn requests(edge: &Edge) {
    let response = get(edge, "/exapps/foo/public?a=1&b=%2F");
    let text = response.text();
    assert!(text.starts_with("GET /public?a=1&b=%2F HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nEX-APP-ID: foo\r\n") && text.contains("\r\nAUTHORIZATION-APP-API: OlQ=\r\n"), "{text}");
    // A kept connection on both sides, with bodies that fill windows and buffers.
    let body: Vec<u8> = (0..1_500_000_u64).map(|at| (at.wrapping_mul(at) >> 9) as u8).collect();
    let mut client = edge.connect();
    for count in [body.len(), 0, 70_000] {
        let length = format!("Content-Length: {count}\r\n");
        send(&mut client, "POST /exapps/foo/public", &length, &body[..count]);
        let response = client.response("POST");
        assert_eq!((response.status, response.is_complete), (200, true));
        assert!(response.body.ends_with(&body[..count]), "{} bytes of {count}", response.body.len());
    }
}

fn events(edge: &Edge, exapp: &ExApp) {
    let mut client = edge.connect();
    send(&mut client, "GET /exapps/foo/public/events", "Connection: close\r\n", b"");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    let mut received = Vec::new();
    let mut until = |text: &str| {
        while !String::from_utf8_lossy(&received).contains(text) {
            received.extend(client.exactly(1));
        }
    };
    until("data: 1\n\n");
    exapp.next_event.send(()).unwrap();
    until("data: 2\n\n");
}

#[test]
fn case_60_requests_websockets_and_events_reach_an_exapp_behind_a_real_client() {
    let Some(binaries) = peer::binaries("case_60_requests_websockets_and_events") else { return };
    let (nextcloud, exapp) = (nextcloud(), ExApp::start());
    for driver in ["epoll", "io_uring"] {
        for (binary, is_v2) in [(&binaries[OLD], false), (&binaries[NEW], true)] {
            let (edge, server) = edge(&nextcloud, driver);
            let _frpc = exapp.frpc(binary, server, "K", is_v2);
            wait_served(&edge);
            let status = &lyre::serve::report::status(&edge.worker.shared)["exapps"];
            assert_eq!((&status["apps"][0]["id"], &status["tunnels"][0]["port"]), (&"foo".into(), &APP_PORT.into()));
            assert_eq!(status["apps"][0]["tunnel_client"], status["tunnels"][0]["client"], "{status}");
            requests(&edge);
            events(&edge, &exapp);
            let mut client = websocket(&edge);
            client.send("ping");
            assert_eq!(client.exactly(4), b"ping");
            // Everything else goes on beside it.
            requests(&edge);
            client.send("pong");
            assert_eq!(client.exactly(4), b"pong");
        }
    }
}

#[test]
fn case_21_without_its_tunnel_an_exapp_is_a_bad_gateway_and_with_it_it_is_back() {
    let Some(binaries) = peer::binaries("case_21_without_its_tunnel") else { return };
    let (nextcloud, exapp) = (nextcloud(), ExApp::start());
    for (driver, binary) in [("epoll", &binaries[OLD]), ("io_uring", &binaries[NEW])] {
        let (edge, server) = edge(&nextcloud, driver);
        assert_eq!(get(&edge, "/exapps/foo/public").status, 502);
        let first = exapp.frpc(binary, server, "K", false);
        wait_served(&edge);
        let mut client = websocket(&edge);
        drop(first);
        // What was open breaks, and nothing is left of the tunnel.
        assert_eq!(client.rest(), b"");
        worker::wait(PATIENCE, || !edge.worker.shared.tunnels.is_up(APP_PORT), || "it is still up".to_owned());
        assert_eq!(get(&edge, "/exapps/foo/public").status, 502);
        let _second = exapp.frpc(binary, server, "K", false);
        wait_served(&edge);
        requests(&edge);
    }
}

/// The request comes first, and the tunnel while it is held.
#[test]
fn a_request_waits_for_a_tunnel_that_is_on_its_way() {
    let Some(binaries) = peer::binaries("a_request_waits_for_a_tunnel") else { return };
    let (nextcloud, exapp) = (nextcloud(), ExApp::start());
    let (edge, server) = edge(&nextcloud, "epoll");
    let address = edge.address;
    std::thread::scope(|scope| {
        // One of them is held when the tunnel comes up, as long as one after the other is sent.
        let asking = scope.spawn(move || {
            let mut answers = Vec::new();
            while answers.last() != Some(&200) && answers.len() < 24 {
                let mut client = Client::over(TcpStream::connect(address).unwrap());
                send(&mut client, "GET /exapps/foo/public", "", b"");
                answers.push(client.response("GET").status);
            }
            answers
        });
        let _frpc = exapp.frpc(&binaries[OLD], server, "K", false);
        let answers = asking.join().unwrap();
        assert_eq!(answers.last(), Some(&200), "{answers:?}");
    });
}

#[test]
fn a_killed_workers_successor_gets_the_tunnels_back() {
    let Some(binaries) = peer::binaries("a_killed_workers_successor_gets_the_tunnels_back") else { return };
    let (nextcloud, exapp) = (nextcloud(), ExApp::start());
    let frp = SocketAddr::from((Ipv4Addr::LOCALHOST, node::free_port()));
    // The parent's environment has this variable.
    let extra = format!("[exapps]\nshared_key_env = \"LYRE_TEST_SECRET\"\nfrp_listen = \"{frp}\"\nfrp_tls = \"off\"\n");
    // A machine that stands still is no hung worker here.
    let edits = &[("hang_timeout = \"300ms\"", "hang_timeout = \"10s\"")];
    let node = Node::start(Start { server: Some(nextcloud.address), extra: &extra, edits, ..Start::default() });
    let _frpc = exapp.frpc(&binaries[OLD], frp, "x", false);
    let is_served = || node.fetch("/exapps/foo/public").is_some();
    worker::wait(PATIENCE * 3, is_served, || "no tunnel came up".to_owned());
    let first = node.worker();
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    let is_replaced = || {
        let status = node.try_status();
        status.is_some_and(|status| status.worker.state == WorkerState::Ready && status.worker.starts >= 2)
    };
    worker::wait(PATIENCE, is_replaced, || "no second worker".to_owned());
    worker::wait(PATIENCE * 3, is_served, || "the tunnel did not come back".to_owned());
}
