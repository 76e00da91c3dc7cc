use super::*;
use crate::control::lan::{Lan, connect};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

#[test]
fn the_kernel_accepts_the_program_for_every_number_of_addresses() {
    for count in [1, 2, 7, 64] {
        let addresses: Vec<IpAddr> = (0..count)
            .map(|n| {
                if n % 2 == 0 { IpAddr::from([10, 0, 0, n as u8]) } else { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]) }
            })
            .collect();
        match bpf::load(&program::assemble(&addresses, [2, 0, 0, 0, 0, 1])) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("SKIPPED: the_kernel_accepts_the_program_for_every_number_of_addresses: {error}");
                return;
            }
            Err(error) => panic!("{count} addresses: {error}"),
        }
    }
}

/// Three namespaces on one segment: the client's holds the bridge. The old node streams to a client; the address
/// moves to the new node in the middle; the stream goes on and a new connection lands on the new node.
#[test]
fn a_stream_survives_the_move_of_its_address() {
    let lan = match Lan::new() {
        Ok(lan) => lan,
        Err(error) => {
            println!("SKIPPED: a_stream_survives_the_move_of_its_address: {error}");
            return;
        }
    };
    for (vip, family) in [("10.9.0.10", "-4"), ("fd09::10", "-6")] {
        let (old, new) = (&lan.old, &lan.new);
        let prefix = if family == "-4" { 32 } else { 128 };
        let nodad = if family == "-4" { "" } else { "nodad" };
        old.sh(&format!("ip addr add {vip}/{prefix} dev eth0 {nodad}"));
        let to: std::net::SocketAddr = (vip.parse::<IpAddr>().unwrap(), 8080).into();
        let old_server = old.run(move || serve(to, b'o'));
        let (mut stream, old_server) = lan.client.run(move || (connect(to), old_server));
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"o");

        let mac = old.sh("ip -br link show eth0 | awk '{print $3}'");
        let peer: Vec<u8> = mac.trim().split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        let peer: [u8; 6] = peer.try_into().unwrap();
        let vip_address: IpAddr = vip.parse().unwrap();
        let attached = new.run(move || {
            let interface = nix::net::if_::if_nametoindex("eth0").unwrap();
            Forwarder::attach(interface, &[vip_address], peer)
        });
        let _forwarder = match attached {
            Ok(forwarder) => forwarder,
            Err(error) => {
                println!("SKIPPED: a_stream_survives_the_move_of_its_address: {error}");
                return;
            }
        };
        old.sh(&format!("ip addr add {vip}/{prefix} dev lo {nodad}; ip addr del {vip}/{prefix} dev eth0"));
        new.sh(&format!("ip addr add {vip}/{prefix} dev eth0 {nodad}"));
        let new_server = new.run(move || serve(to, b'n'));
        lan.client.sh(&format!("ip {family} neigh flush dev br0"));

        // The old connection still talks to the old node, in both directions.
        for _ in 0..20 {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"o");
        }
        // A new one talks to the new node.
        let mut fresh = lan.client.run(move || connect(to));
        fresh.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"n");
        // A packet that neither knows is refused, not bounced for ever.
        drop(old_server);
        drop(new_server);
        old.sh(&format!("ip addr del {vip}/{prefix} dev lo"));
        new.sh(&format!("ip addr del {vip}/{prefix} dev eth0"));
    }
}

/// Answers every byte with `name`, one first, on one connection at a time.
fn serve(at: SocketAddr, name: u8) -> TcpListener {
    let listener = TcpListener::bind(at).unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = accepting.accept() {
            std::thread::spawn(move || {
                let mut byte = [0];
                let _ = stream.write_all(&[name]);
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[name]).is_ok() {}
            });
        }
    });
    listener
}
