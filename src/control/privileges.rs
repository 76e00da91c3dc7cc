//! Capabilities: what the parent needs for a configuration, and how the worker gives everything up.

#![allow(unsafe_code)] // capset and two prctl calls that nix does not wrap

use crate::config::settings::Settings;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use std::fmt;
use std::fs;

/// Bit numbers of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    SysNice = 23,
    SysResource = 24,
}

/// The effective set of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// One capability that is missing, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub capability: Capability,
    pub purpose: String,
}

/// What a configuration cannot do in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Without these it does not start.
    pub needed: Vec<Need>,
    /// Without these it works less well.
    pub wished: Vec<Need>,
}

/// Who the worker runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The parent's own user.
    Keep,
    Switch {
        uid: u32,
        gid: u32,
    },
}

/// The account named in the configuration does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownUser(pub String);

/// Without an account of its own the worker of a root parent is `nobody`.
const NOBODY: u32 = 65534;
const DEFAULT_ACCOUNT: &str = "lyre";
/// RLIMIT_RTPRIO from which on the VRRP thread gets its priority.
const REALTIME: u64 = 50;

impl Capabilities {
    pub fn of_this_process() -> Capabilities {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0").trim();
        Capabilities(u64::from_str_radix(bits, 16).unwrap_or(0))
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    /// What two of them allow, resource limits may allow as well: systemd's `LimitRTPRIO` and `LimitMEMLOCK`, limits.conf.
    pub fn or_by_limits(self) -> Capabilities {
        let soft = |resource| getrlimit(resource).map_or(0, |(soft, _)| soft);
        self.or_by(soft(Resource::RLIMIT_RTPRIO), soft(Resource::RLIMIT_MEMLOCK))
    }

    fn or_by(self, realtime: u64, memory: u64) -> Capabilities {
        let realtime = (Capability::SysNice, realtime >= REALTIME);
        let memory = (Capability::IpcLock, memory == libc::RLIM_INFINITY);
        let bits = [realtime, memory].into_iter().filter(|(_, is_allowed)| *is_allowed);
        bits.fold(self, |all, (capability, _)| Capabilities(all.0 | 1 << capability as u8))
    }
}

impl Missing {
    /// Compares what `settings` ask for with what this process may do. `unprivileged_port` is the first port that
    /// needs no capability (net.ipv4.ip_unprivileged_port_start).
    pub fn of(settings: &Settings, held: Capabilities, unprivileged_port: u16) -> Missing {
        let mut missing = Missing::default();
        let low: Vec<String> = settings
            .addresses()
            .filter(|address| address.port() != 0 && address.port() < unprivileged_port)
            .map(|address| address.to_string())
            .collect();
        if !low.is_empty() && !held.has(Capability::NetBindService) {
            let purpose = format!("to listen on {}", low.join(" and "));
            missing.needed.push(Need { capability: Capability::NetBindService, purpose });
        }
        if settings.routers.is_empty() {
            return missing;
        }
        let mut interfaces: Vec<&str> = settings.routers.iter().map(|router| router.interface.as_str()).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        let interfaces = interfaces.join(", ");
        let addresses: Vec<String> =
            settings.routers.iter().flat_map(|router| router.held()).map(ToString::to_string).collect();
        for (capability, purpose) in [
            (Capability::NetRaw, format!("to send and hear VRRP adverts on {interfaces} ([[vip]])")),
            (Capability::NetAdmin, format!("to put {} on {interfaces} ([[vip]])", addresses.join(", "))),
        ] {
            if !held.has(capability) {
                missing.needed.push(Need { capability, purpose });
            }
        }
        for (capability, purpose) in [
            (Capability::SysNice, "to send adverts on time while the machine is busy"),
            (Capability::IpcLock, "to keep the advert sender in memory while the machine swaps"),
        ] {
            if !held.has(capability) {
                missing.wished.push(Need { capability, purpose: purpose.to_owned() });
            }
        }
        missing
    }
}

/// First port that any user may bind in this network namespace.
pub fn unprivileged_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

impl Identity {
    /// Chooses the worker's user: its own account when the parent is root and may switch (and still signal it
    /// afterwards). The note says why not, for one log line.
    pub fn for_worker(user: Option<&str>, held: Capabilities) -> Result<(Identity, Option<String>), UnknownUser> {
        let (uid, gid) = account(user, DEFAULT_ACCOUNT)?;
        if !Uid::effective().is_root() {
            let note = user.map(|name| format!("not root: the worker keeps this user instead of {name}"));
            return Ok((Identity::Keep, note));
        }
        let wanted = [Capability::SetUid, Capability::SetGid, Capability::Kill];
        if !wanted.iter().all(|capability| held.has(*capability)) {
            let note = "the worker keeps uid 0 without capabilities: CAP_SETUID, CAP_SETGID or CAP_KILL is missing";
            return Ok((Identity::Keep, Some(note.to_owned())));
        }
        if !is_mapped("/proc/self/uid_map", uid) || !is_mapped("/proc/self/gid_map", gid) {
            let note = format!("the worker keeps uid 0 without capabilities: this user namespace does not map {uid}");
            return Ok((Identity::Keep, Some(note)));
        }
        Ok((Identity::Switch { uid, gid }, None))
    }
}

/// Ids of the named account, else of the default one, else those of nobody.
pub(super) fn account(user: Option<&str>, default: &str) -> Result<(u32, u32), UnknownUser> {
    let account = match user {
        Some(name) => Some(User::from_name(name).ok().flatten().ok_or_else(|| UnknownUser(name.to_owned()))?),
        None => User::from_name(default).ok().flatten(),
    };
    Ok(account.map_or((NOBODY, NOBODY), |account| (account.uid.as_raw(), account.gid.as_raw())))
}

/// Gives up every privilege of the calling, single-threaded process for good: user, groups, capabilities including the
/// bounding and ambient sets, and the way back by exec. `kept` stays if it is held; `group` is one to be in besides.
pub fn surrender(identity: Identity, group: Option<u32>, kept: Option<Capability>) -> Result<(), Errno> {
    let kept = kept.filter(|capability| Capabilities::of_this_process().has(*capability));
    prctl::set_no_new_privs()?;
    prctl::set_keepcaps(kept.is_some())?;
    // Fails without CAP_SETPCAP, when there is nothing worth bounding either: no_new_privs keeps exec from adding any.
    for capability in 0..64 {
        // SAFETY: changes one bit of this process' credentials, no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    if let Identity::Switch { uid, gid } = identity {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        // Denied in a user namespace without a group map; there are no foreign groups to lose there.
        let groups: Vec<Gid> = std::iter::once(gid).chain(group.map(Gid::from_raw)).collect();
        match setgroups(&groups) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => return Err(error),
        }
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    limit_capabilities(kept)
}

/// capset(2): `kept` stays effective and permitted, nothing else does. Only a system call: may run between fork and
/// exec.
pub(super) fn limit_capabilities(kept: Option<Capability>) -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// _LINUX_CAPABILITY_VERSION_3: two words of effective, permitted, inheritable.
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // All of ours are in the first word.
    let word = kept.map_or(0, |capability| 1u32 << capability as u8);
    let (effective, permitted, inheritable) = (word, word, 0);
    let sets = [effective, permitted, inheritable, 0, 0, 0];
    // SAFETY: both point to live values of the layout that version 3 prescribes.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
}

/// Whether a user namespace maps `id`. Without the file there are no user namespaces and everything is.
pub(super) fn is_mapped(path: &str, id: u32) -> bool {
    let Ok(map) = fs::read_to_string(path) else { return true };
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        let (inside, count) = (fields.next().unwrap_or(0), fields.nth(1).unwrap_or(0));
        (inside..inside.saturating_add(count)).contains(&u64::from(id))
    })
}

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Capability::Kill => "CAP_KILL",
            Capability::SetGid => "CAP_SETGID",
            Capability::SetUid => "CAP_SETUID",
            Capability::NetBindService => "CAP_NET_BIND_SERVICE",
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::IpcLock => "CAP_IPC_LOCK",
            Capability::SysNice => "CAP_SYS_NICE",
            Capability::SysResource => "CAP_SYS_RESOURCE",
        }
    }
}

/// All of them at once, and the two lines that grant them.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this process lacks capabilities that the configuration needs:")?;
        for Need { capability, purpose } in &self.needed {
            writeln!(f, "  {:<21} {purpose}", capability.name())?;
        }
        for Need { capability, purpose } in &self.wished {
            writeln!(f, "  {:<21} {purpose} (recommended)", capability.name())?;
        }
        let names: Vec<&str> = self.needed.iter().chain(&self.wished).map(|need| need.capability.name()).collect();
        let binary = std::env::current_exe().map_or("lyre".to_owned(), |path| path.display().to_string());
        writeln!(f, "grant them to the binary:  setcap {}+ep {binary}", names.join(",").to_lowercase())?;
        write!(f, "or in the systemd unit:    AmbientCapabilities={}", names.join(" "))
    }
}

impl fmt::Display for UnknownUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker.user: there is no account {:?} on this machine", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::bundle::{Bundle, Interface};

    const ALL: Capabilities = Capabilities(u64::MAX);
    const NONE: Capabilities = Capabilities(0);

    fn settings(text: &str) -> Settings {
        let interfaces = vec![Interface { name: "eth0".into(), addresses: vec!["192.0.2.11/24".parse().unwrap()] }];
        let text = format!("[nextcloud]\nhosts = [\"a.example\"]\nservers = [\"10.0.0.21:80\"]\n{text}");
        let bundle = Bundle { path: "lyre.toml".into(), text, interfaces, cpus: 1, ..Bundle::default() };
        config::from_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const VIP: &str = "[[vip]]\naddresses = [\"192.0.2.10/24\"]\ninterface = \"eth0\"\nvrid = 51\npriority = 254\n";

    #[test]
    fn every_missing_capability_is_named_with_its_purpose() {
        let listeners = "[[listener]]\naddress = \"0.0.0.0:80\"\nkind = \"http\"\n";
        let missing = Missing::of(&settings(&format!("{VIP}{listeners}")), NONE, 1024).to_string();
        for part in [
            "CAP_NET_BIND_SERVICE  to listen on 0.0.0.0:80",
            "CAP_NET_RAW           to send and hear VRRP adverts on eth0",
            "CAP_NET_ADMIN         to put 192.0.2.10/24 on eth0",
            "CAP_SYS_NICE ",
            "CAP_IPC_LOCK ",
            "setcap cap_net_bind_service,cap_net_raw,cap_net_admin,cap_sys_nice,cap_ipc_lock+ep /",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_NET_ADMIN CAP_SYS_NICE CAP_IPC_LOCK",
        ] {
            assert!(missing.contains(part), "{part} is missing in:\n{missing}");
        }
    }

    #[test]
    fn limits_allow_what_two_capabilities_would() {
        for (realtime, memory, allowed) in [
            (0, 0, [false, false]),
            (REALTIME - 1, u64::MAX - 1, [false, false]),
            (REALTIME, 8 << 20, [true, false]),
            (99, libc::RLIM_INFINITY, [true, true]),
        ] {
            let held = NONE.or_by(realtime, memory);
            assert_eq!([held.has(Capability::SysNice), held.has(Capability::IpcLock)], allowed, "{realtime} {memory}");
        }
        assert_eq!(ALL.or_by(0, 0), ALL);
    }

    #[test]
    fn high_ports_and_no_virtual_address_need_nothing() {
        let high = settings("[[listener]]\naddress = \"0.0.0.0:8080\"\nkind = \"http\"\n");
        assert_eq!(Missing::of(&high, NONE, 1024), Missing::default());
        assert_eq!(Missing::of(&settings(VIP), ALL, 1024), Missing::default());
        assert_eq!(Missing::of(&high, NONE, 9000).needed.len(), 1);
    }

    #[test]
    fn an_account_that_does_not_exist_is_an_error() {
        let result = Identity::for_worker(Some("no-such-account"), ALL);
        assert_eq!(result, Err(UnknownUser("no-such-account".to_owned())));
    }
}
