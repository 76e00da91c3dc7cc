//! Between the parts: what `lyre check` would refuse is taken out here, and said.

use super::addresses::Address;
use super::instance::Instance;
use super::nodes::Node;
use super::servers::Service;
use super::speech::Peer;
use crate::import::findings::{Class, Findings};
use crate::import::names::vip_name;
use std::collections::HashSet;
use std::net::IpAddr;

/// Of one family in one advert.
const ADDRESSES_MAX: usize = 64;

const LISTENERS_MAX: usize = 32;

pub(super) fn routers(findings: &mut Findings, nodes: &[Node], instances: &mut [Instance]) {
    let mut seen: HashSet<IpAddr> = HashSet::new();
    let mut used: Vec<(Option<String>, u8, bool)> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for instance in instances.iter_mut().filter(|instance| instance.problem.is_none()) {
        let mut count = [0usize; 2];
        instance.addresses.retain(|address| {
            let ip = address.network.addr();
            let family = &mut count[usize::from(ip.is_ipv6())];
            if nodes.iter().any(|node| node.address == ip) {
                let why = "is a node's own address too; a virtual address belongs to no node";
                revise(findings, address, Class::Refused, why);
                return false;
            }
            if !seen.insert(ip) {
                revise(findings, address, Class::Remark, "was listed before, and is written once");
                return false;
            }
            if *family == ADDRESSES_MAX {
                let why = "is more than the 64 addresses of one advert; make a second [[vip]] with another vrid";
                revise(findings, address, Class::Refused, why);
                return false;
            }
            *family += 1;
            true
        });
        instance.excluded.retain(|address| {
            let ip = address.network.addr();
            let is_node = nodes.iter().any(|node| node.address == ip);
            if is_node || !seen.insert(ip) {
                let why =
                    if is_node { "is a node's own address too" } else { "was listed before, and is written once" };
                revise(findings, address, if is_node { Class::Refused } else { Class::Remark }, why);
                return false;
            }
            true
        });
        let lacks_peers = |is_v6: bool| {
            let is_other = |peer: &Peer| peer.address.is_ipv6() == is_v6 && Some(peer.address) != instance.source;
            !instance.peers.is_empty() && !instance.peers.iter().any(is_other)
        };
        instance.vip_name = vip_name(&instance.name, &names);
        names.push(instance.vip_name.clone());
        let Some(vrid) = instance.vrid else { continue };
        let families: Vec<bool> = (0..2).filter(|&index| count[index] > 0).map(|index| index == 1).collect();
        // Without an interface it may be any of them.
        let is_same =
            |other: &Option<String>| other.is_none() || instance.interface.is_none() || *other == instance.interface;
        let clash = used.iter().any(|(i, v, is_v6)| *v == vrid && families.contains(is_v6) && is_same(i));
        let problem = match () {
            () if families.is_empty() => "no address is left of it",
            () if families.iter().any(|is_v6| lacks_peers(*is_v6)) => "has no peer of the family of its addresses",
            () if instance.version == 2 && families.contains(&true) => {
                "version 2 carries no IPv6 addresses; give them an instance of their own"
            }
            () if clash => "has the interface and the virtual_router_id of an instance before it",
            () => {
                used.extend(families.into_iter().map(|is_v6| (instance.interface.clone(), vrid, is_v6)));
                continue;
            }
        };
        findings.at(&instance.at, Class::Refused, format!("vrrp_instance {}", instance.name), problem);
        instance.problem = Some(problem.to_owned());
    }
}

/// The address was mapped; now it is not.
fn revise(findings: &mut Findings, address: &Address, class: Class, why: &str) {
    match findings.0.get_mut(address.finding) {
        Some(finding) => {
            finding.class = class;
            finding.why = why.to_owned();
        }
        None => findings.at(&address.at, class, address.network.to_string(), why),
    }
}

/// Each path of a host leads to one pool, whichever address the client asked.
pub(super) fn services(findings: &mut Findings, services: &mut [Service]) {
    let mut hosts: HashSet<String> = HashSet::new();
    let mut names: HashSet<String> = HashSet::new();
    let mut ports: HashSet<(u16, bool)> = HashSet::new();
    for service in services.iter_mut().filter(|service| service.problem.is_none()) {
        let wanted: Vec<String> = if service.hosts.is_empty() { vec!["*".to_owned()] } else { service.hosts.clone() };
        let problem = match () {
            () if names.contains(&service.name) => "is there twice",
            () if wanted.iter().any(|host| hosts.contains(host)) => {
                "an earlier virtual_server answers for these hosts; give each pool hosts of its own in its [[route]]"
            }
            () if ports.len() >= LISTENERS_MAX => "there are more listeners than 32",
            () => {
                hosts.extend(wanted);
                names.insert(service.name.clone());
                ports.insert((service.port, service.is_v6));
                let why = "[[pool]], [[route]] and [[listener]]: the proxy instead of the kernel's IPVS";
                findings.at(&service.at, Class::Remark, format!("virtual_server {}", service.shown), why);
                continue;
            }
        };
        findings.at(&service.at, Class::Refused, format!("virtual_server {}", service.shown), problem);
        service.problem = Some(problem.to_owned());
    }
}
