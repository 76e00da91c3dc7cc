//! `lyre demo` from outside: what it prints, how it ends, and that nothing of it stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod lab;

use lab::{LYRE, may_make_namespaces, processes_below, until};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A demo that was left running, after it said so.
fn kept(user: Option<u32>, program: &str) -> (Child, String) {
    // Who runs us in the background may have had the interrupt ignored, and that is inherited.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", program, "demo", "--keep"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut demo = command.spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    while !said.contains("Ctrl-C ends everything") {
        if lines.read_line(&mut said).unwrap() == 0 {
            let mut complaint = String::new();
            std::io::Read::read_to_string(&mut demo.stderr.take().unwrap(), &mut complaint).unwrap();
            panic!("the demo ended early: {said}\n{complaint}");
        }
    }
    (demo, said)
}

fn end(mut demo: Child, signal: nix::sys::signal::Signal) {
    let below = processes_below(demo.id());
    // The chain of the sandbox, two nodes with a parent and a worker each, two web servers.
    assert!(below.len() >= 9, "only {below:?} run");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(demo.id().try_into().unwrap()), signal).unwrap();
    demo.wait().unwrap();
    until("every process of the demo to end", Duration::from_secs(10), || {
        below.iter().all(|process| !process.exists())
    });
}

#[test]
fn sigkill_to_the_demo_leaves_no_process_behind() {
    if may_make_namespaces("sigkill_to_the_demo_leaves_no_process_behind") {
        end(kept(None, LYRE).0, nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn a_kept_demo_names_its_address_and_the_way_in_and_ends_with_an_interrupt() {
    if !may_make_namespaces("a_kept_demo_names_its_address_and_the_way_in_and_ends_with_an_interrupt") {
        return;
    }
    let (demo, said) = kept(None, LYRE);
    assert!(said.contains("https://10.77.0.10:443"), "{said}");
    // The way in really leads to the client, and from there the pair answers.
    let way = said.lines().find_map(|line| line.trim().strip_prefix("client  ")).unwrap();
    let answer = Command::new("sh")
        .arg("-c")
        .arg(format!("{way} curl -sk --max-time 5 --connect-to ::10.77.0.10:443 https://cloud.demo/status.php"))
        .output()
        .unwrap();
    let body = String::from_utf8_lossy(&answer.stdout).into_owned();
    end(demo, nix::sys::signal::Signal::SIGINT);
    assert!(body.contains("\"productname\":\"Nextcloud\""), "{body} {}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn an_ordinary_user_runs_the_demo_in_a_user_namespace() {
    let name = "an_ordinary_user_runs_the_demo_in_a_user_namespace";
    if !may_make_namespaces(name) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        // Every other test of this file is that one, then.
        println!("SKIPPED: {name}: not root, so all tests run as an ordinary user already");
        return;
    }
    // The build directory may be closed to others.
    let directory = std::env::temp_dir().join(format!("lyre-demo-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    let copy = directory.join("lyre");
    std::fs::copy(LYRE, &copy).unwrap();
    let run = std::panic::catch_unwind(|| {
        end(kept(Some(65534), copy.to_str().unwrap()).0, nix::sys::signal::Signal::SIGKILL);
    });
    std::fs::remove_dir_all(&directory).unwrap();
    run.unwrap();
}

#[test]
fn an_unknown_fault_is_refused_with_the_known_ones() {
    let output = Command::new(LYRE).args(["demo", "--fault", "meteor"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for known in ["cable", "node", "worker-crash", "worker-hang", "planned", "web"] {
        assert!(said.contains(known), "{said}");
    }
}
