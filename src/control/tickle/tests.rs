use super::*;
use crate::control::lan::{Lan, connect};
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::Duration;

#[test]
fn the_checksum_of_a_whole_segment_is_zero() {
    let packet = packet_v4([10, 0, 0, 10].into(), 443, [203, 0, 113, 9].into(), 40001, (0, 1 << 31));
    let pseudo = [&packet[12..20], &[0, 6, 0, 20]].concat();
    assert_eq!(checksum(&[&pseudo, &packet[20..]].concat()), 0);
    let packet = packet_v6("fd00::10".parse().unwrap(), 443, "fd00::9".parse().unwrap(), 40001, (1 << 31, 0));
    let pseudo = [&packet[8..40], &[0, 0, 0, 20, 0, 0, 0, 6]].concat();
    assert_eq!(checksum(&[&pseudo, &packet[40..]].concat()), 0);
}

/// The old node vanishes (its cable is cut) while a client waits for bytes; the address appears on the new node; the
/// tickle resets the client's connection, which nothing else would do for minutes.
#[test]
fn a_waiting_client_is_reset_at_once() {
    let lan = match Lan::new() {
        Ok(lan) => lan,
        Err(error) => {
            println!("SKIPPED: a_waiting_client_is_reset_at_once: {error}");
            return;
        }
    };
    for (vip, prefix, nodad) in [("10.9.0.10", 32, ""), ("fd09::10", 128, "nodad")] {
        lan.client.sh("ip link set p2 up");
        lan.old.sh(&format!("ip addr add {vip}/{prefix} dev eth0 {nodad}"));
        let to: SocketAddr = (vip.parse::<IpAddr>().unwrap(), 8080).into();
        let _old = lan.old.run(move || TcpListener::bind(to).unwrap());
        let mut stream = lan.client.run(move || connect(to));
        let client = stream.local_addr().unwrap();

        lan.client.sh("ip link set p2 down; ip neigh flush dev br0");
        lan.new.sh(&format!("ip addr add {vip}/{prefix} dev eth0 {nodad}"));
        let _new = lan.new.run(move || TcpListener::bind(to).unwrap());
        let sent = lan.new.run(move || tickle(&[Connection { client, local: to }], &AtomicBool::new(true)));
        assert!(sent.unwrap() >= 1);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{vip}: {error}");
    }
}

#[test]
fn nothing_is_sent_once_another_node_is_active() {
    let connection = Connection { client: "127.0.0.1:9".parse().unwrap(), local: "127.0.0.1:10".parse().unwrap() };
    match tickle(&[connection], &AtomicBool::new(false)) {
        Ok(sent) => assert_eq!(sent, 0),
        Err(error) => println!("SKIPPED: nothing_is_sent_once_another_node_is_active: {error}"),
    }
}

/// A stateful ruleset as many write it, on the node or on the client's side of the path.
const STATEFUL: &str = "nft 'table inet f { chain in { type filter hook input priority 0; ct state invalid drop; }; }'";
const LIBERAL: &str = "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1";

/// Whether a waiting client is reset, with these commands run on its host and on the new node beforehand.
fn is_reset(on_client: &str, on_node: &str) -> Result<bool, String> {
    let lan = Lan::new()?;
    let vip = "10.9.0.10";
    lan.old.sh(&format!("ip addr add {vip}/32 dev eth0"));
    lan.client.sh(on_client);
    lan.new.sh(on_node);
    let to: SocketAddr = (vip.parse::<IpAddr>().unwrap(), 8080).into();
    let _old = lan.old.run(move || TcpListener::bind(to).unwrap());
    let mut stream = lan.client.run(move || connect(to));
    let client = stream.local_addr().unwrap();
    lan.client.sh("ip link set p2 down; ip neigh flush dev br0");
    lan.new.sh(&format!("ip addr add {vip}/32 dev eth0"));
    let _new = lan.new.run(move || TcpListener::bind(to).unwrap());
    lan.new.run(move || tickle(&[Connection { client, local: to }], &AtomicBool::new(true))).unwrap();
    // All rounds are over, and what they brought about is there.
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    Ok(stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
}

/// Connections draw their numbers anew, so each case is tried thrice.
#[test]
fn tickles_pass_a_stateful_firewall_of_the_client_and_a_remedied_one_of_the_node() {
    let test = "tickles_pass_a_stateful_firewall_of_the_client_and_a_remedied_one_of_the_node";
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        return println!("SKIPPED: {test}: nft is not installed");
    }
    let remedied = format!("{STATEFUL}; {LIBERAL}");
    let cases = [(STATEFUL, "true"), ("true", remedied.as_str()), (STATEFUL, remedied.as_str())];
    std::thread::scope(|scope| {
        let run = |(client, node)| scope.spawn(move || ((client, node), is_reset(client, node)));
        let runs: Vec<_> = cases.into_iter().cycle().take(3 * cases.len()).map(run).collect();
        for run in runs {
            match run.join().unwrap() {
                (_, Err(error)) => println!("SKIPPED: {test}: {error}"),
                (case, Ok(reset)) => assert!(reset, "{case:?}"),
            }
        }
    });
}
