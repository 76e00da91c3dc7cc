use super::*;

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
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            println!("SKIPPED: a_stream_survives_the_move_of_its_address: {error}");
            return;
        }
    };
    for (vip, family) in [("10.9.0.10", "-4"), ("fd09::10", "-6")] {
        let (old, new) = (&lab.old, &lab.new);
        let prefix = if family == "-4" { 32 } else { 128 };
        let nodad = if family == "-4" { "" } else { "nodad" };
        old.sh(&format!("ip addr add {vip}/{prefix} dev eth0 {nodad}"));
        let to: std::net::SocketAddr = (vip.parse::<IpAddr>().unwrap(), 8080).into();
        let old_server = old.run(move || serve(to, b'o'));
        let (mut stream, old_server) = lab.client.run(move || (connect(to), old_server));
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
        lab.client.sh(&format!("ip {family} neigh flush dev br0"));

        // The old connection still talks to the old node, in both directions.
        for _ in 0..20 {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"o");
        }
        // A new one talks to the new node.
        let mut fresh = lab.client.run(move || connect(to));
        fresh.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"n");
        // A packet that neither knows is refused, not bounced for ever.
        drop(old_server);
        drop(new_server);
        old.sh(&format!("ip addr del {vip}/{prefix} dev lo"));
        new.sh(&format!("ip addr del {vip}/{prefix} dev eth0"));
    }
}

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace: a thread that lives in it and runs what it is given. Gone when dropped.
struct Namespace {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

impl Namespace {
    fn new() -> Result<Namespace, String> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (started, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let result = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            let _ = started.send(result.map(|()| nix::unistd::gettid().as_raw()));
            for job in inbox {
                job();
            }
        });
        let tid = ready.recv().map_err(|e| e.to_string())?.map_err(|e| format!("no network namespace: {e}"))?;
        Ok(Namespace { jobs, tid })
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(answer.send(job())))).unwrap();
        result.recv().unwrap()
    }

    fn sh(&self, script: &str) -> String {
        let script = format!("export PATH=$PATH:/usr/sbin:/sbin; {script}");
        self.run(move || {
            let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

struct Lab {
    client: Namespace,
    old: Namespace,
    new: Namespace,
}

impl Lab {
    fn new() -> Result<Lab, String> {
        let lab = Lab { client: Namespace::new()?, old: Namespace::new()?, new: Namespace::new()? };
        lab.client.sh("ip link add br0 type bridge && ip link set br0 up && ip addr add 10.9.0.1/24 dev br0 && \
                       ip addr add fd09::1/64 dev br0 nodad");
        for (node, number) in [(&lab.old, 2), (&lab.new, 3)] {
            lab.client.sh(&format!(
                "ip link add p{number} type veth peer name eth0 netns {} && ip link set p{number} master br0 up",
                node.tid
            ));
            node.sh(&format!(
                "ip link set lo up; ip link set eth0 up; ip addr add 10.9.0.{number}/24 dev eth0; \
                 ip addr add fd09::{number}/64 dev eth0 nodad; \
                 sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
            ));
        }
        Ok(lab)
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

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    stream
}
