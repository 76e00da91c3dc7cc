//! The fence around the laboratory: namespaces that end with the process that asked for them, however it ends.
//!
//! The program runs itself again, with a stage in its environment, because a user namespace needs a process with one
//! thread and a PID namespace only holds children:
//!
//! ```text
//! lyre demo          as typed: waits, passes on the result
//!  └─ fence          dies with its parent; unshares user (if needed), mount, network and PID namespaces
//!      └─ init       process 1 inside: reaps orphans. Its death is the kernel's order to kill everything inside
//!          └─ director   the demo proper; the unshared network namespace is the switch
//!              ├─ web    one process per web server (stage "web")
//!              └─ lyre run, keepalived, …
//! ```
//!
//! Nothing is named in `/run/netns`, files live on a private tmpfs, and every link of the chain has a parent-death signal:
//! SIGKILL to the first process leaves nothing behind.

use crate::demo::error::DemoError;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid, getppid};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// Which process of the chain this is.
const STAGE: &str = "LYRE_LAB_STAGE";
/// Process id of the parent, to notice that it died before the parent-death signal was armed.
const PARENT: &str = "LYRE_LAB_PARENT";

/// Where the program finds itself after [`enter`].
pub enum Place {
    /// Outside, and everything inside has ended; whether it ended well.
    Outside(bool),
    /// Inside, as the director.
    Inside(Inside),
    /// Inside, as a web server with these words of [`web_command`].
    Web(Vec<String>),
}

/// What the director knows of the world outside.
#[derive(Debug, Clone, Copy)]
pub struct Inside {
    /// This process as the host counts it, for `nsenter`.
    pub host_pid: i32,
    /// A user namespace is between us and the host: `nsenter` needs `-U`.
    pub in_user_namespace: bool,
}

/// Private directory of the laboratory, gone with it.
pub fn run_dir() -> PathBuf {
    PathBuf::from("/run/lyre-lab")
}

/// Goes inside. Returns in four kinds of process: see [`Place`].
pub fn enter() -> Result<Place, DemoError> {
    let stage = std::env::var(STAGE).unwrap_or_default();
    let mut words = stage.split(' ').map(str::to_owned);
    match words.next().as_deref() {
        None | Some("") => outside(),
        Some("fence") => fence(),
        Some("init") => init(),
        Some("director") => director().map(Place::Inside),
        Some("web") => Ok(Place::Web(words.collect())),
        Some(other) => {
            Err(DemoError::Command { command: format!("{STAGE}={other}"), said: "no such stage".to_owned() })
        }
    }
}

/// This program as a web server process; `words` are handed to it. Words hold no spaces.
pub fn web_command(words: &[&str]) -> Command {
    again(&format!("web {}", words.join(" ")))
}

fn again(stage: &str) -> Command {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).env(STAGE, stage).env(PARENT, std::process::id().to_string());
    command
}

/// A program that is not part of the chain: it must not mistake itself for a stage.
pub fn outsider(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove(STAGE).env_remove(PARENT);
    command
}

fn outside() -> Result<Place, DemoError> {
    let status = again("fence").status().map_err(DemoError::lab("starting the laboratory"))?;
    passed_on(status).map(Place::Outside)
}

fn fence() -> Result<Place, DemoError> {
    die_with_parent()?;
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (uid, gid) = (geteuid(), getegid());
    // Root may lack CAP_SYS_ADMIN, for example in a container; a user namespace is worth a try then.
    let as_root = uid.is_root() && unshare(namespaces).is_ok();
    if !as_root {
        unshare(namespaces | CloneFlags::CLONE_NEWUSER).map_err(refused)?;
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
        // New credentials disarm the parent-death signal.
        die_with_parent()?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(refused)?;
    let status = again("init").status().map_err(DemoError::lab("starting process 1 of the laboratory"))?;
    passed_on(status).map(Place::Outside)
}

/// Process 1 inside. Orphans (the worker of a killed node, say) become its children and must not stay zombies.
fn init() -> Result<Place, DemoError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused)?;
    let director = again("director").spawn().map_err(DemoError::lab("starting the director"))?;
    let director = Pid::from_raw(i32::try_from(director.id()).unwrap_or(i32::MAX));
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == director => return Ok(Place::Outside(code == 0)),
            Ok(WaitStatus::Signaled(pid, ..)) if pid == director => return Err(DemoError::Killed),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => {
                return Err(DemoError::Lab { step: "waiting for the director".to_owned(), source: error.into() });
            }
        }
    }
}

fn director() -> Result<Inside, DemoError> {
    // The /proc seen here is still the host's, so its "self" is our number there.
    let host_pid = std::fs::read_link("/proc/self")
        .ok()
        .and_then(|link| link.to_str().and_then(|text| text.parse().ok()))
        .unwrap_or_default();
    let in_user_namespace =
        std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.trim_end().ends_with("4294967295"));
    let private = |source: &str, target: &str, kind: &str| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(source), target, Some(kind), flags, None::<&str>)
            .map_err(|error| DemoError::Lab { step: format!("mounting {target}"), source: error.into() })
    };
    private("proc", "/proc", "proc")?;
    private("tmpfs", "/run", "tmpfs")?;
    allow_many_descriptors()?;
    std::fs::create_dir_all(run_dir()).map_err(DemoError::lab("making the laboratory's directory"))?;
    Ok(Inside { host_pid, in_user_namespace })
}

/// During an outage every request of the last seconds is an open socket. All of the laboratory inherits this.
fn allow_many_descriptors() -> Result<(), DemoError> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .map_err(|error| DemoError::Lab { step: "raising the limit of open files".to_owned(), source: error.into() })
}

fn die_with_parent() -> Result<(), DemoError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused)?;
    let expected = std::env::var(PARENT).ok().and_then(|text| text.parse().ok()).map(Pid::from_raw);
    if expected == Some(getppid()) { Ok(()) } else { Err(DemoError::Killed) }
}

/// The stages speak to each other by exit status: 0 survived, 1 not. Who failed has already said why.
fn passed_on(status: ExitStatus) -> Result<bool, DemoError> {
    match status.code() {
        Some(code) => Ok(code == 0),
        None => Err(DemoError::Killed),
    }
}

fn refused(error: nix::Error) -> DemoError {
    DemoError::Namespaces(error.into())
}

fn write(path: &str, text: &str) -> Result<(), DemoError> {
    std::fs::write(path, text).map_err(|source| {
        DemoError::Namespaces(io::Error::new(source.kind(), format!("writing \"{text}\" to {path}: {source}")))
    })
}
