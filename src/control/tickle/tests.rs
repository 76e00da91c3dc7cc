use super::*;
use crate::control::lan::{Lan, connect};
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::Duration;

#[test]
fn the_checksum_of_a_whole_segment_is_zero() {
    let packet = packet_v4([10, 0, 0, 10].into(), 443, [203, 0, 113, 9].into(), 40001, 0);
    let pseudo = [&packet[12..20], &[0, 6, 0, 20]].concat();
    assert_eq!(checksum(&[&pseudo, &packet[20..]].concat()), 0);
    let packet = packet_v6("fd00::10".parse().unwrap(), 443, "fd00::9".parse().unwrap(), 40001, 1 << 31);
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
