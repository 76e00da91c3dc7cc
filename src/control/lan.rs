//! Three namespaces on one segment, for tests of what happens when an address moves.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace: a thread that lives in it and runs what it is given. Gone when dropped.
pub(super) struct Namespace {
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

    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(answer.send(job())))).unwrap();
        result.recv().unwrap()
    }

    pub(super) fn sh(&self, script: &str) -> String {
        let script = format!("export PATH=$PATH:/usr/sbin:/sbin; {script}");
        self.run(move || {
            let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

pub(super) struct Lan {
    pub(super) client: Namespace,
    pub(super) old: Namespace,
    pub(super) new: Namespace,
}

impl Lan {
    pub(super) fn new() -> Result<Lan, String> {
        let lab = Lan { client: Namespace::new()?, old: Namespace::new()?, new: Namespace::new()? };
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

pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    stream
}
