//! Two workers as the nodes of a pair: they write to the same server, and keep out the same clients.

use crate::edge::{Echo, Edge, PATIENCE, line, read};
use lyre::config::settings::{Cluster, Node, Secret};
use lyre::pair::table::SharedTable;
use lyre::serve::abuse::orders;
use lyre::serve::parent::{BanChange, Report};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// The nodes' ends of the link: one port at both addresses.
fn link_sockets() -> (u16, [TcpListener; 2]) {
    loop {
        let one = TcpListener::bind((NODES[0], 0)).unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind((NODES[1], port)) {
            return (port, [one, two]);
        }
    }
}

fn node(keys: &str, driver: &'static str, this: usize, link_port: u16) -> Edge {
    let nodes = NODES.iter().zip(["edge-a", "edge-b"]);
    let nodes = nodes.map(|(address, name)| Node { name: name.to_owned(), address: IpAddr::V4(*address) }).collect();
    Edge::start_with(keys, driver, 1, |settings| {
        settings.cluster = Some(Cluster { nodes, this, secret: Secret(b"a secret of the test"[..].into()), link_port });
    })
}

type Told = Arc<Mutex<Vec<Report>>>;

fn join(edge: &Edge, listener: TcpListener) -> Told {
    let told = Told::default();
    let reports = told.clone();
    let (_table, memfd) = SharedTable::create(c"lyre-table").unwrap();
    let reporter: lyre::serve::pairing::Reporter = Arc::new(move |report| reports.lock().unwrap().push(report));
    edge.worker.shared.abuse.tell(reporter.clone());
    edge.worker.join(memfd, listener.into(), reporter);
    told
}

/// Taken, and nobody listens there yet.
fn silent() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn the_active_nodes_writer_is_the_others_too() {
    let vip = IpAddr::from([127, 0, 0, 1]); // where the service listens
    for driver in ["epoll", "io_uring"] {
        let (socket, address) = silent();
        let two = Echo::start("two");
        let keys = format!(
            "servers = [\"{address}\", \"{}\"]\nmode = \"single-writer\"\n\
             check = {{ interval = \"100ms\", rise = 1, fall = 1 }}\n",
            two.address
        );
        let (port, [one_end, other_end]) = link_sockets();
        let a = node(&keys, driver, 0, port);
        let second = Some(two.address.to_string());
        a.wait("a takes the one there is", |a| a.writer() == second);
        socket.listen(64).unwrap();
        let one = Echo::on(socket.into(), "one");
        let first = Some(one.address.to_string());
        let b = node(&keys, driver, 1, port);
        b.wait("b takes the first", |b| b.writer() == first);
        a.wait("a sees both", |a| a.state(0) == "up");
        assert_eq!(a.writer(), second, "alone, each goes its way");

        // The clients come to b, so a follows, though it is the first node.
        b.worker.shared.agreement.hold(vec![vip]);
        let mut session = a.connect();
        assert_eq!(line(&mut session).unwrap(), "two");
        join(&a, one_end);
        join(&b, other_end);
        a.wait("a follows", |a| a.writer() == first);
        assert_eq!(read(&mut session, &mut [0]), Err(ErrorKind::ConnectionReset));
        assert_eq!(a.first_line().unwrap(), "one");
        assert_eq!((b.writer(), b.metric("lyre_tcp_writer_changes_total")), (first.clone(), 1), "b did not move");

        // A fail-over changes nothing, and a lost writer is followed by the same one on both.
        b.worker.shared.agreement.hold(Vec::new());
        a.worker.shared.agreement.hold(vec![vip]);
        one.stop();
        a.wait("a leaves the lost one", |a| a.writer() == second);
        b.wait("b leaves the lost one", |b| b.writer() == second);
        drop(b);
        assert_eq!((a.writer(), a.first_line().unwrap().as_str()), (second, "two"), "alone again");
    }
}

#[test]
fn bans_are_shared_and_lifted_on_both_nodes() {
    let echo = Echo::start("one");
    let keys = format!("servers = [\"{}\"]\n", echo.address);
    let (port, [one_end, other_end]) = link_sockets();
    let (a, b) = (node(&keys, "io_uring", 0, port), node(&keys, "io_uring", 1, port));
    let bans = |edge: &Edge| {
        let bans = edge.worker.shared.abuse.bans().into_iter();
        let mut bans: Vec<_> =
            bans.map(|(ban, left)| (ban.network.to_string(), left, ban.reason.as_str(), ban.is_learnt)).collect();
        bans.sort();
        bans
    };
    let order = |edge: &Edge, change| orders::bans(&edge.worker.shared, Some(change));
    let ban = |address: &str, length_ms| BanChange::Ban { address: address.parse().unwrap(), length_ms };
    let unban = |address: &str| BanChange::Unban { address: address.parse().unwrap() };
    // Before there is a link, and after.
    order(&a, ban("198.51.100.7", Some(3_600_000))).unwrap();
    let (told_a, told_b) = (join(&a, one_end), join(&b, other_end));
    b.wait("what stood is told", |b| bans(b).len() == 1);
    let known = bans(&b).remove(0);
    assert_eq!((known.0.as_str(), known.2, known.3), ("198.51.100.7", "order", true));
    let left = known.1.unwrap();
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    let client = "2001:db8::7".parse().unwrap();
    let snapshot = a.worker.shared.snapshot();
    for n in 0..30u8 {
        let _ = a.worker.shared.abuse.failed(&snapshot.settings, client, &[n]);
    }
    b.wait("a new one is told", |b| bans(b).len() == 2);
    let known = bans(&b).remove(1);
    assert_eq!((known.0.as_str(), known.2, known.3), ("2001:db8::/64", "failed_logins", true));
    order(&b, ban("198.51.100.8", None)).unwrap();
    a.wait("it goes both ways", |a| bans(a).len() == 3);
    // A node tells only of its own, or a ban that is lifted would come back from where it was told.
    assert_eq!((a.worker.shared.abuse.own_bans().len(), b.worker.shared.abuse.own_bans().len()), (2, 1));
    let was_told = |told: &Told, is_it: &dyn Fn(&Report) -> bool| told.lock().unwrap().iter().any(is_it);
    assert!(was_told(&told_b, &|report| matches!(report, Report::Banned(banned) if banned.is_learnt)));

    order(&b, unban("198.51.100.7")).unwrap();
    a.wait("lifted at the other node", |a| bans(a).iter().all(|ban| ban.0 != "198.51.100.7"));
    assert!(bans(&b).iter().all(|ban| ban.0 != "198.51.100.7"));
    let deadline = Instant::now() + PATIENCE;
    while !was_told(&told_a, &|report| matches!(report, Report::Unbanned { .. })) {
        assert!(Instant::now() < deadline, "the parent does not hear of it");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(b);
    a.wait("the loss is seen", |a| !a.worker.shared.pairing().unwrap().is_connected());
    let answer = order(&a, unban("198.51.100.8")).unwrap();
    assert!(answer.contains("say it there too"), "{answer}");
}
