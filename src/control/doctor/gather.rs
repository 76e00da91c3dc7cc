//! Collects the facts. Everything that cannot be found out is left unknown; nothing here is an error.

use super::facts::{Alarm, Bridge, Daemon, Facts, Link, Manager, Peer, Privileges, Router, Rule, Ticks};
use super::{firewall, listen};
use crate::config::settings::vip::Peers;
use crate::config::settings::{Cluster, Settings, VirtualRouter};
use crate::control::privileges::{Capabilities, Capability};
use crate::control::status::Status;
use lyre_vrrp::link::linux::may_open_raw_sockets;
use lyre_vrrp::link::linux::netlink::Netlink;
use lyre_vrrp::packet::Family;
use nix::net::if_::InterfaceFlags;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A host that is there answers within this, if only by refusing.
const ANSWER_WAIT: Duration = Duration::from_millis(700);

pub(super) fn facts(settings: &Settings, status: Option<&Status>, wait: Duration) -> Facts {
    let mut netlink = Netlink::open().ok();
    let mut routers: Vec<Router> = settings.routers.iter().map(|router| configured(router, status)).collect();
    let indices: Vec<u32> = routers.iter_mut().map(|router| look_at(router, netlink.as_mut())).collect();
    for (router, index) in routers.iter_mut().zip(&indices).filter(|(_, index)| **index != 0) {
        router.sending = may_open_raw_sockets().then(|| listen::try_to_send(router, *index).map_err(|e| e.to_string()));
    }
    let mut ears = listen::Ears::open(&routers, indices);
    for (number, router) in routers.iter_mut().enumerate() {
        router.has_socket = ears.has_socket(number);
    }
    let before = ticks();
    ears.listen(&mut routers, wait);
    let ticks = before.zip(ticks()).map(|(before, after)| Ticks {
        all: after.all.saturating_sub(before.all),
        stolen: after.stolen.saturating_sub(before.stolen),
    });
    routers.iter_mut().for_each(look_at_senders);
    Facts {
        privileges: privileges(netlink.as_mut()),
        ticks,
        daemon: status.map(|status| Daemon { is_pair_link_up: status.pair.as_ref().map(|pair| pair.is_up) }),
        peers: settings.cluster.as_ref().map(peers).unwrap_or_default(),
        firewall: dropping_rules(),
        routers,
    }
}

fn configured(router: &VirtualRouter, status: Option<&Status>) -> Router {
    let running = status.and_then(|status| status.routers.iter().find(|running| running.name == router.name));
    let alarms = running.map(|running| running.alarms.as_slice()).unwrap_or_default();
    Router {
        name: router.name.clone(),
        interface: router.interface.clone(),
        is_v4: router.addresses.first().is_some_and(|network| network.addr().is_ipv4()),
        vrid: router.vrid,
        version: router.version,
        priority: router.priority,
        interval_ms: u64::from(router.advert_interval_cs) * 10,
        addresses: router.addresses.iter().map(|network| network.addr()).collect(),
        is_unicast: matches!(router.peers, Peers::Unicast(_)),
        has_virtual_mac: router.virtual_mac.is_some(),
        state: running.map(|running| running.state.clone()),
        alarms: alarms.iter().map(|a| Alarm { name: a.name.clone(), remedy: a.remedy.clone() }).collect(),
        link: None,
        heard: Vec::new(),
        has_socket: false,
        sending: None,
        claims: Vec::new(),
        removals: 0,
    }
}

/// Fills in the interface; its index, 0 if there is none.
fn look_at(router: &mut Router, netlink: Option<&mut Netlink>) -> u32 {
    let name = router.interface.clone();
    let found = netlink.and_then(|netlink| Some((netlink.interface(&name).ok()??, netlink)));
    let Some((interface, netlink)) = found else { return 0 };
    let family = if router.is_v4 { Family::V4 } else { Family::V6 };
    let mut assigned = Vec::new();
    let _ = netlink.addresses(interface.index, family, &mut assigned);
    let own = assigned.iter().filter(|a| !a.is_tentative).map(|a| a.network.addr());
    let may_send = |address: &IpAddr| {
        let is_of_kind = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => router.is_unicast || v6.is_unicast_link_local(),
        };
        is_of_kind && (router.priority == 255 || !router.addresses.contains(address))
    };
    let flags = flags(&name);
    router.link = Some(Link {
        is_up: flags.contains(InterfaceFlags::IFF_UP),
        has_carrier: interface.is_running,
        mac: interface.mac,
        sources: own.filter(may_send).collect(),
        rp_filter: ["all", name.as_str()].into_iter().filter_map(rp_filter).max().unwrap_or(0),
        manager: manager(interface.index),
        bridge: bridge(&name),
        hypervisor: hypervisor(),
    });
    interface.index
}

fn flags(name: &str) -> InterfaceFlags {
    let mut all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.find(|entry| entry.interface_name == name).map_or(InterfaceFlags::empty(), |entry| entry.flags)
}

/// Whether the kernel would answer each sender by the interface that it was heard on.
fn look_at_senders(router: &mut Router) {
    let own = router.link.as_ref().map(|link| link.sources.clone()).unwrap_or_default();
    for heard in &mut router.heard {
        heard.is_routed_here =
            heard.source.is_ipv6() || source_towards(heard.source).is_some_and(|ip| own.contains(&ip));
    }
}

/// Connecting a UDP socket sends nothing, but picks the route.
fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn privileges(netlink: Option<&mut Netlink>) -> Privileges {
    let has = Capabilities::of_this_process().or_by_limits();
    Privileges {
        may_open_raw_sockets: may_open_raw_sockets(),
        may_change_addresses: netlink.is_some_and(Netlink::may_change_addresses),
        may_be_realtime: has.has(Capability::SysNice),
        realtime_runtime_us: number(Path::new("/proc/sys/kernel/sched_rt_runtime_us")),
        may_lock_memory: has.has(Capability::IpcLock),
    }
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
fn ticks() -> Option<Ticks> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
    Some(Ticks { all: fields.iter().take(8).sum(), stolen: *fields.get(7)? })
}

fn peers(cluster: &Cluster) -> Vec<Peer> {
    let others = cluster.nodes.iter().enumerate().filter(|(number, _)| *number != cluster.this);
    let answers = |address| match TcpStream::connect_timeout(&SocketAddr::new(address, cluster.link_port), ANSWER_WAIT)
    {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    others
        .map(|(_, node)| Peer { name: node.name.clone(), address: node.address, answers: answers(node.address) })
        .collect()
}

/// None if neither program is there or may be used.
fn dropping_rules() -> Option<Vec<Rule>> {
    let nft = output("nft", &["list", "ruleset"]).map(|text| firewall::in_nft(&text));
    let iptables = ["iptables-save", "ip6tables-save"].map(|program| output(program, &[]));
    let legacy: Vec<Rule> = iptables.iter().flatten().flat_map(|text| firewall::in_iptables(text)).collect();
    if nft.is_none() && iptables.iter().all(Option::is_none) {
        return None;
    }
    let mut rules = nft.unwrap_or_default();
    rules.extend(legacy);
    Some(rules)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
    let program = places.iter().find(|path| path.exists())?;
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn rp_filter(interface: &str) -> Option<u8> {
    number(&Path::new("/proc/sys/net/ipv4/conf").join(interface).join("rp_filter"))
}

/// What the network services note about interfaces in their run-time directories.
fn manager(index: u32) -> Option<Manager> {
    let read = |directory: &str| fs::read_to_string(Path::new(directory).join(index.to_string())).unwrap_or_default();
    manages(&read("/run/systemd/netif/links"), &read("/run/NetworkManager/devices"))
}

fn manages(networkd: &str, network_manager: &str) -> Option<Manager> {
    let has = |text: &str, key: &str, values: &[&str]| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.any(|(name, value)| name.trim() == key && values.contains(&value.trim()))
    };
    if has(networkd, "ADMIN_STATE", &["configured", "configuring", "pending", "degraded"]) {
        return Some(Manager::Networkd);
    }
    has(network_manager, "managed", &["true", "1", "full"]).then_some(Manager::NetworkManager)
}

fn bridge(interface: &str) -> Option<Bridge> {
    let place = Path::new("/sys/class/net").join(interface);
    let bridge =
        if place.join("bridge").is_dir() { place } else { fs::canonicalize(place.join("brport/bridge")).ok()? };
    let name = bridge.file_name()?.to_string_lossy().into_owned();
    let is_set = |key: &str| number(&bridge.join("bridge").join(key)).is_some_and(|value: u8| value != 0);
    Some(Bridge { name, is_snooping: is_set("multicast_snooping"), has_querier: is_set("multicast_querier") })
}

fn hypervisor() -> Option<String> {
    let is_virtual = fs::read_to_string("/proc/cpuinfo").ok()?.lines().any(|line| {
        line.strip_prefix("flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
    });
    let maker = fs::read_to_string("/sys/class/dmi/id/sys_vendor").map(|text| text.trim().to_owned());
    is_virtual.then(|| maker.unwrap_or_else(|_| "unknown maker".to_owned()))
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_services_are_told_from_their_notes() {
        let networkd = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n";
        assert_eq!(manages(networkd, ""), Some(Manager::Networkd));
        assert_eq!(manages("ADMIN_STATE=unmanaged\n", ""), None);
        assert_eq!(manages("", "[device]\nmanaged=true\n"), Some(Manager::NetworkManager));
        assert_eq!(manages("", "[device]\nmanaged=false\n"), None);
    }

    #[test]
    fn this_machine_has_ticks() {
        assert!(ticks().is_some_and(|ticks| ticks.all > 0 && ticks.stolen <= ticks.all));
    }
}
