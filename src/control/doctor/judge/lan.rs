//! Checks of what goes over the LAN: who else speaks, whether it arrives, who claims the address.

use super::{Finding, Level, found, ok};
use crate::control::doctor::facts::{Facts, Heard, Peer, Router, Rule};
use std::net::IpAddr;

/// `rp_filter` that wants the route back to leave by the same interface.
const STRICT: u8 = 1;

impl Router {
    /// Adverts of our VRID by others.
    fn rivals(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter().filter(|heard| heard.vrid == self.vrid && !heard.is_ours)
    }
}

/// The sender is a node of the cluster, or at least speaks about our addresses.
fn is_peer(router: &Router, heard: &Heard, peers: &[Peer]) -> bool {
    peers.iter().any(|peer| peer.address == heard.source)
        || heard.addresses.iter().any(|address| router.addresses.contains(address))
}

/// Somebody else's virtual router of the same number.
pub(super) fn vrid(router: &Router, peers: &[Peer]) -> Finding {
    let (check, name, vrid) = ("vrid", router.name.as_str(), router.vrid);
    let Some(stranger) = router.rivals().find(|heard| !is_peer(router, heard, peers)) else {
        return ok(check, name, format!("nobody else uses VRID {vrid}"));
    };
    let mut used: Vec<u8> = router.heard.iter().map(|heard| heard.vrid).collect();
    used.sort_unstable();
    let free = (1..=u8::MAX).rev().find(|vrid| !used.contains(vrid)).unwrap_or(router.vrid);
    let message = format!(
        "{} uses VRID {vrid}, too, for {} (priority {})",
        stranger.source,
        list(&stranger.addresses),
        stranger.priority
    );
    found(Level::Fail, check, name, message, format!("set vip.vrid = {free} on both nodes; nobody was heard to use it"))
}

/// The peer's settings differ where they must not.
pub(super) fn settings(router: &Router, peers: &[Peer]) -> Finding {
    let (check, name) = ("settings", router.name.as_str());
    let Some(peer) = router.rivals().find(|heard| is_peer(router, heard, peers)) else {
        return ok(check, name, "no advert of a peer to compare with");
    };
    let mut differ = Vec::new();
    if peer.version != router.version {
        differ.push((Level::Fail, format!("speaks version {}, we {}", peer.version, router.version)));
    }
    if peer.interval_ms != router.interval_ms {
        let level = if router.version == 2 { Level::Fail } else { Level::Warn };
        differ.push((level, format!("advertises every {} ms, we every {} ms", peer.interval_ms, router.interval_ms)));
    }
    if peer.addresses != router.addresses {
        differ.push((Level::Warn, format!("lists {}, we {}", list(&peer.addresses), list(&router.addresses))));
    }
    if peer.priority == router.priority {
        differ.push((Level::Warn, format!("has our priority {}, so the address decides", peer.priority)));
    }
    if peer.ttl != 255 && !router.is_unicast {
        differ.push((Level::Fail, format!("comes with TTL {}, so a router is in between", peer.ttl)));
    }
    let Some(level) = differ.iter().map(|(level, _)| *level).max() else {
        return ok(check, name, format!("{} is configured like this node", peer.source));
    };
    let texts: Vec<String> = differ.into_iter().map(|(_, text)| text).collect();
    let message = format!("{} {}", peer.source, texts.join("; "));
    found(level, check, name, message, "make both nodes alike (lyre check prints what this one amounts to)")
}

/// Whether what is on the wire arrives in a socket.
pub(super) fn reception(router: &Router, firewall: Option<&[Rule]>) -> Finding {
    let (check, name) = ("reception", router.name.as_str());
    let others: Vec<&Heard> = router.heard.iter().filter(|heard| !heard.is_ours).collect();
    if !router.has_socket || others.is_empty() {
        let rules = firewall.unwrap_or_default();
        let Some(rule) = rules.first() else {
            return ok(check, name, "no rule found that drops adverts, and none on the wire to try it with");
        };
        let message = format!("a firewall rule drops adverts: {} (chain {})", rule.text, rule.chain);
        return found(Level::Warn, check, name, message, allow(router));
    }
    let Some(lost) = others.iter().find(|heard| heard.on_wire > 1 && heard.at_socket == 0) else {
        return ok(check, name, "adverts on the wire arrive");
    };
    let what = format!("adverts of {} are on the wire but do not arrive", lost.source);
    let filter = router.link.as_ref().map_or(0, |link| link.rp_filter);
    if router.is_v4 && filter == STRICT && !lost.is_routed_here {
        let message = format!("{what}: rp_filter = 1, and the route to {} is not by {}", lost.source, router.interface);
        let remedy = format!(
            "put both nodes into one subnet, or set net.ipv4.conf.all.rp_filter and net.ipv4.conf.{}.rp_filter to 2",
            router.interface
        );
        return found(Level::Fail, check, name, message, remedy);
    }
    let cause = match firewall.and_then(|rules| rules.first()) {
        Some(rule) => format!("the firewall drops them: {} (chain {})", rule.text, rule.chain),
        None => "a firewall on this host drops them, most likely".to_owned(),
    };
    found(Level::Fail, check, name, format!("{what}: {cause}"), allow(router))
}

fn allow(router: &Router) -> String {
    let family = if router.is_v4 { "ip daddr 224.0.0.18" } else { "ip6 daddr ff02::12" };
    format!("accept protocol 112 (vrrp) in and out: nft add rule … iifname {} {family} accept", router.interface)
}

pub(super) fn sending(router: &Router) -> Finding {
    let (check, name) = ("sending", router.name.as_str());
    match &router.sending {
        Some(Ok(())) => ok(check, name, "the kernel lets adverts out"),
        Some(Err(error)) => {
            let message = format!("the kernel refuses to send adverts: {error}");
            found(Level::Fail, check, name, message, allow(router))
        }
        None => found(Level::Warn, check, name, "could not try to send an advert", "run the doctor as root"),
    }
}

/// Nothing heard although somebody should be: multicast is filtered on the way.
pub(super) fn silence(router: &Router, facts: &Facts) -> Finding {
    let (check, name) = ("multicast", router.name.as_str());
    let link = router.link.as_ref();
    let bridge = link.and_then(|link| link.bridge.as_ref()).filter(|bridge| bridge.is_snooping && !bridge.has_querier);
    if router.rivals().next().is_some() {
        return ok(check, name, "a peer's adverts reach this node");
    }
    let is_active = is_active(router);
    let is_peer_alive = facts.peers.iter().any(|peer| peer.answers)
        || facts.daemon.as_ref().is_some_and(|daemon| daemon.is_pair_link_up == Some(true));
    let remedy = match bridge {
        _ if router.is_unicast => "check the peers' addresses in vip.peers and the firewalls on the way".to_owned(),
        Some(bridge) => format!(
            "bridge {0} snoops without a querier: ip link set {0} type bridge mcast_querier 1, or mcast_snooping 0",
            bridge.name
        ),
        None => {
            "switch on an IGMP/MLD querier or switch off snooping in this VLAN, or use unicast peers; run the doctor \
                 on the other node, too"
                .to_owned()
        }
    };
    if is_active {
        // A Backup says nothing, so the Active hears nobody.
        return match bridge {
            Some(bridge) => {
                let message = format!("bridge {} snoops without a querier and will stop passing adverts", bridge.name);
                found(Level::Warn, check, name, message, remedy)
            }
            None => ok(check, name, "this node is Active; a Backup is silent"),
        };
    }
    if is_peer_alive {
        let message =
            "the peer is alive, but no advert of it arrives: multicast is filtered in between, or no lyre runs there";
        return found(Level::Fail, check, name, message, remedy);
    }
    found(Level::Warn, check, name, "nobody advertises this virtual router here", "start lyre on one node at least")
}

pub(super) fn actives(router: &Router, facts: &Facts) -> Finding {
    let (check, name) = ("actives", router.name.as_str());
    let ours = router.heard.iter().any(|heard| heard.vrid == router.vrid && heard.is_ours && heard.priority > 0);
    let mut theirs = router.rivals().filter(|heard| heard.priority > 0 && is_peer(router, heard, &facts.peers));
    match theirs.next() {
        Some(other) if ours || is_active(router) => {
            let message = format!("this node and {} are both Active", other.source);
            let remedy =
                "run the doctor on the other node: this one's adverts do not arrive there, or are not understood";
            found(Level::Fail, check, name, message, remedy)
        }
        Some(other) => ok(check, name, format!("{} is Active (priority {})", other.source, other.priority)),
        None if ours || is_active(router) => ok(check, name, "this node is Active, alone"),
        None => ok(check, name, "no two Actives heard"),
    }
}

/// Somebody takes the addresses away, or has them without being Active.
pub(super) fn address(router: &Router) -> Finding {
    let (check, name) = ("address", router.name.as_str());
    if router.removals > 0 && is_active(router) {
        let message =
            format!("somebody on this host removed a virtual address {} times while we looked", router.removals);
        let remedy =
            "find the program (ip -ts monitor address); as a rule a network service that manages the interface";
        return found(Level::Fail, check, name, message, remedy);
    }
    let is_known = |mac: &[u8; 6]| {
        router.link.as_ref().is_some_and(|link| link.mac == *mac)
            || router.rivals().any(|heard| heard.mac == *mac)
            || matches!(mac, [0, 0, 0x5e, 0, 1 | 2, vrid] if *vrid == router.vrid)
    };
    let foreign = router.claims.iter().find(|claim| !is_known(&claim.mac));
    match foreign {
        Some(claim) => {
            let message = format!("{} says it has {}, and is no router heard here", mac(&claim.mac), claim.address);
            found(Level::Fail, check, name, message, "take the address off that machine, or choose another one")
        }
        None => ok(check, name, "nobody else claims the virtual addresses"),
    }
}

/// Only where a virtual MAC is asked for: most hypervisors do not let frames with a foreign source address out.
pub(super) fn virtual_mac(router: &Router) -> Option<Finding> {
    let hypervisor = router.link.as_ref()?.hypervisor.as_ref()?;
    if !router.has_virtual_mac {
        return None;
    }
    let message = format!("virtual_mac inside a virtual machine ({hypervisor}): frames with a foreign source address");
    let remedy = "allow forged transmits, MAC changes (VMware) or MAC spoofing (Hyper-V, libvirt) and no port security for \
                  this port, or set virtual_mac = false";
    Some(found(Level::Warn, "virtual_mac", &router.name, message, remedy))
}

/// What the lyre here has noticed by itself over a longer time.
pub(super) fn alarms(router: &Router) -> Vec<Finding> {
    let raised = router.alarms.iter();
    raised
        .map(|a| found(Level::Warn, "alarm", &router.name, format!("{} is raised", a.name), a.remedy.as_str()))
        .collect()
}

fn is_active(router: &Router) -> bool {
    router.state.as_deref().is_some_and(|state| state.eq_ignore_ascii_case("active"))
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    if texts.is_empty() { "no address".to_owned() } else { texts.join(", ") }
}

fn mac(bytes: &[u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
