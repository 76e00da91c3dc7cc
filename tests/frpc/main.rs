//! The FRP core against the real frpc, old and new: logins, tunnels in every wrapping, refusals, clients that die, hang
//! and come back. A small driver of blocking sockets stands in for the server's own I/O.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)] // helpers outside of test functions

mod backend;
mod driver;
#[allow(dead_code)]
#[path = "../proxy/edge.rs"]
mod edge;
mod gateway;
mod live;
#[allow(dead_code)]
#[path = "../supervisor/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../proxy/origin.rs"]
mod origin;
mod peer;
#[path = "../lab/worker.rs"]
mod worker;
mod wrap;

use backend::{Backend, pattern};
use driver::{Seen, Server};
use lyre::proto::frp::identity::Grant;
use lyre::proto::frp::session::Failure;
use peer::{Frpc, NEW, OLD, Options, Proxy};

/// As HaRP's clients: one proxy, the shared key in the metas.
fn app(backend: &Backend) -> Options {
    Options { proxies: vec![Proxy::new("app", 23_000, backend)], ..Options::default() }
}

/// A request of `up` bytes that is answered with `down` bytes, through the tunnel.
fn exchange(server: &Server, port: u16, up: usize, down: usize) {
    let answer = server.open(port, backend::request(up, down)).wait().unwrap();
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
    assert!(text.contains(&format!("x-received: {up}\r\n")), "{text}");
    assert!(answer[head..] == pattern(down)[..], "{} bytes of {down}", answer.len() - head);
}

#[test]
fn a_tunnel_carries_bytes_in_every_wrapping_with_and_without_the_multiplexer() {
    let Some(binaries) = peer::binaries("a_tunnel_carries_bytes_in_every_wrapping") else { return };
    let backend = Backend::start();
    for (binary, is_v2) in [(&binaries[OLD], false), (&binaries[NEW], false), (&binaries[NEW], true)] {
        for is_muxed in [true, false] {
            let server = Server::start(Vec::new());
            let mut options = Options { is_muxed, is_v2, pool_count: 2, ..app(&backend) };
            for (at, proxy) in [(true, false), (false, true), (true, true)].into_iter().enumerate() {
                let mut more = Proxy::new(&format!("wrapped-{at}"), 23_001 + at as u16, &backend);
                (more.is_encrypted, more.is_compressed) = proxy;
                options.proxies.push(more);
            }
            let _frpc = Frpc::start(binary, server.port, &options);
            for port in 23_000..23_004 {
                server.wait_up(port);
            }
            for port in 23_000..23_004 {
                exchange(&server, port, 0, 10);
                exchange(&server, port, 700_000, 1_000_000);
            }
        }
    }
}

#[test]
fn many_at_once_get_their_own_answers() {
    let Some(binaries) = peer::binaries("many_at_once_get_their_own_answers") else { return };
    let backend = Backend::start();
    for binary in binaries {
        let server = Server::start(Vec::new());
        let _frpc = Frpc::start(&binary, server.port, &app(&backend));
        server.wait_up(23_000);
        let sizes: Vec<usize> = (0..60).map(|at| 1 + at * 777).collect();
        let open: Vec<_> = sizes.iter().map(|size| server.open(23_000, backend::request(0, *size))).collect();
        for (size, answer) in sizes.iter().zip(open) {
            assert!(answer.wait().unwrap().ends_with(&pattern(*size)));
        }
    }
}

/// Its window fills and stays full; everything else goes on, for as long as it likes.
#[test]
fn a_stream_nobody_reads_stalls_alone() {
    let Some(binaries) = peer::binaries("a_stream_nobody_reads_stalls_alone") else { return };
    let backend = Backend::start();
    for binary in binaries {
        let server = Server::start(Vec::new());
        let _frpc = Frpc::start(&binary, server.port, &app(&backend));
        server.wait_up(23_000);
        let slow = server.open_stalled(23_000, backend::request(0, 2_000_000));
        for _ in 0..4 {
            exchange(&server, 23_000, 300_000, 600_000);
        }
        assert!(slow.is_pending());
        server.release();
        assert!(slow.wait().unwrap().ends_with(&pattern(2_000_000)));
    }
}

#[test]
fn a_wrong_key_is_refused_and_says_so() {
    let Some(binaries) = peer::binaries("a_wrong_key_is_refused_and_says_so") else { return };
    let backend = Backend::start();
    for (binary, is_v2) in [(&binaries[OLD], false), (&binaries[NEW], true)] {
        let server = Server::start(Vec::new());
        for (options, words) in [
            (Options { key: "wrong".to_owned(), ..app(&backend) }, "send Login request to plugin error"),
            (Options { auth_token: "wrong".to_owned(), ..app(&backend) }, "token in login doesn't match"),
        ] {
            let mut frpc = Frpc::start(binary, server.port, &Options { is_v2, ..options });
            let said = frpc.wait_exit();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(server.sessions(), 0);
    }
}

#[test]
fn a_second_port_and_one_outside_of_the_ranges_are_refused_and_the_first_stays() {
    let Some(binaries) = peer::binaries("a_second_port_is_refused") else { return };
    let backend = Backend::start();
    for binary in binaries {
        let server = Server::start_strict(Vec::new());
        let mut options = app(&backend);
        options.proxies.push(Proxy::new("second", 23_001, &backend));
        let mut frpc = Frpc::start(&binary, server.port, &options);
        frpc.wait_said("exceed the max_ports_per_client");
        let one = server.wait_any_up();
        exchange(&server, one, 0, 100);
        let outside = Options { proxies: vec![Proxy::new("outside", 25_000, &backend)], ..Options::default() };
        let mut frpc = Frpc::start(&binary, server.port, &outside);
        frpc.wait_said("port not allowed");
        exchange(&server, one, 0, 100);
    }
}

#[test]
fn a_token_of_its_own_binds_a_client_to_its_name_and_port() {
    let Some(binaries) = peer::binaries("a_token_of_its_own_binds_a_client") else { return };
    let backend = Backend::start();
    let grant = Grant { proxy_name: "mine".to_owned(), remote_port: 23_007 };
    let server = Server::start(vec![("own".to_owned(), grant)]);
    let options = |name: &str, port| Options {
        key: "own".to_owned(),
        proxies: vec![Proxy::new(name, port, &backend)],
        ..Options::default()
    };
    let mut thief = Frpc::start(&binaries[OLD], server.port, &options("other", 24_000));
    thief.wait_said("this token is for proxy [mine] on port 23007");
    let _frpc = Frpc::start(&binaries[OLD], server.port, &options("mine", 23_007));
    server.wait_up(23_007);
    exchange(&server, 23_007, 10, 10);
}

#[test]
fn a_client_that_is_killed_leaves_at_once_and_comes_back() {
    let Some(binaries) = peer::binaries("a_client_that_is_killed_leaves_at_once") else { return };
    let backend = Backend::start();
    for binary in binaries {
        let server = Server::start(Vec::new());
        for _ in 0..2 {
            let frpc = Frpc::start(&binary, server.port, &app(&backend));
            server.wait_up(23_000);
            exchange(&server, 23_000, 0, 10);
            drop(frpc);
            server.wait(|seen| matches!(seen, Seen::Down(23_000)));
            assert_eq!(server.open(23_000, Vec::new()).wait(), Err(Failure::NoProxy));
        }
    }
}

#[test]
fn a_client_that_lost_its_connection_comes_back_with_its_run_id() {
    let Some(binaries) = peer::binaries("a_client_that_lost_its_connection_comes_back") else { return };
    let backend = Backend::start();
    for binary in binaries {
        let server = Server::start(Vec::new());
        let _frpc = Frpc::start(&binary, server.port, &app(&backend));
        server.wait_up(23_000);
        let first = server.run_ids();
        server.cut();
        server.wait(|seen| matches!(seen, Seen::Down(23_000)));
        server.wait_up(23_000);
        assert_eq!(server.run_ids(), first);
        exchange(&server, 23_000, 0, 10);
    }
}

/// A stopped process keeps its connection open and answers nothing, as a host does that lost its power.
#[test]
fn a_holder_that_hangs_makes_room_and_one_that_lives_does_not() {
    let Some(binaries) = peer::binaries("a_holder_that_hangs_makes_room") else { return };
    let backend = Backend::start();
    let server = Server::start(Vec::new());
    let holder = Frpc::start(&binaries[OLD], server.port, &app(&backend));
    server.wait_up(23_000);
    let mut rival = Frpc::start(&binaries[NEW], server.port, &app(&backend));
    rival.wait_said("proxy [app] already exists");
    exchange(&server, 23_000, 0, 10);
    drop(rival);
    holder.pause();
    let _rival = Frpc::start(&binaries[NEW], server.port, &app(&backend));
    server.wait(|seen| matches!(seen, Seen::Down(23_000)));
    server.wait_up(23_000);
    exchange(&server, 23_000, 0, 10);
}

/// Streams that wait for somebody are acknowledged although nothing is sent on them: a client ends its session over one
/// that is not after 75 seconds. Its pings, and ours, go on meanwhile. `LYRE_TEST_IDLE_SECONDS` (90) makes it longer.
#[test]
fn an_idle_pool_stays() {
    let Some(binaries) = peer::binaries("an_idle_pool_stays") else { return };
    let backend = Backend::start();
    let all: Vec<_> = binaries
        .iter()
        .map(|binary| {
            let server = Server::start(Vec::new());
            let frpc = Frpc::start(binary, server.port, &Options { pool_count: 5, ..app(&backend) });
            server.wait_up(23_000);
            (server, frpc)
        })
        .collect();
    let seconds = std::env::var("LYRE_TEST_IDLE_SECONDS").map_or(90, |text| text.parse().expect("whole seconds"));
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    for (server, _frpc) in &all {
        assert!(server.seen().iter().all(|seen| *seen == Seen::Up(23_000)), "never down");
        exchange(server, 23_000, 10, 10);
    }
}
