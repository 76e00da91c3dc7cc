//! `virtual_ipaddress` and `virtual_ipaddress_excluded`: one address a line, with options of ip-address(8).

use crate::config::settings::vip::unusable;
use crate::import::error::Position;
use crate::import::findings::{Class, Findings};
use crate::import::keepalived::tree::Statement;
use ipnet::IpNet;
use std::net::IpAddr;

#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) network: IpNet,
    pub(super) at: Position,
    /// Index of its finding, until these are sorted.
    pub(super) finding: usize,
}

/// The usable addresses of a block. `interface` is the instance's.
pub(super) fn read(findings: &mut Findings, block: &Statement, interface: Option<&str>) -> Vec<Address> {
    let is_excluded = block.name() == "virtual_ipaddress_excluded";
    block.inside().iter().filter_map(|line| address(findings, line, interface, is_excluded)).collect()
}

/// Without a prefix length it is the address alone, /32 or /128, in keepalived and here.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn address(findings: &mut Findings, line: &Statement, interface: Option<&str>, is_excluded: bool) -> Option<Address> {
    let words = line.words();
    let (first, options) = words.split_first()?;
    let Some(network) = parse(first) else {
        findings.refused(line, "is no address; write it into vip.addresses as it was meant");
        return None;
    };
    if let Some(reason) = unusable(network) {
        findings.refused(line, format!("{reason}; take an unused address of the network"));
        return None;
    }
    let noted = match noted(options, interface) {
        Ok(noted) => noted,
        Err(why) => {
            findings.refused(line, why);
            return None;
        }
    };
    let key = if is_excluded { "vip.excluded_addresses" } else { "vip.addresses" };
    match noted.is_empty() {
        true => findings.mapped(line, key),
        false => findings.add(line, Class::Remark, format!("{key}; {}", noted.join("; "))),
    }
    Some(Address { network, at: line.at().clone(), finding: findings.0.len().saturating_sub(1) })
}

/// What is left out of the options, or why the address cannot be had.
fn noted(options: &[&str], interface: Option<&str>) -> Result<Vec<String>, String> {
    let mut noted = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = match *option {
            "dev" | "label" | "brd" | "broadcast" | "scope" | "peer" | "preferred_lft" | "track_group" => {
                options.next().copied().unwrap_or_default()
            }
            _ => "",
        };
        match *option {
            "dev" if Some(value) == interface => {}
            "dev" => {
                return Err(format!(
                    "is on {value}, another interface; give it a [[vip]] of its own with interface = {value:?} and a vrid that is free there"
                ));
            }
            "peer" => return Err("an address with a peer is not in this version".to_owned()),
            "brd" | "broadcast" | "-nodad" | "nodad" | "no_track" => {}
            "label" => noted.push("no label, tools show the address without it".to_owned()),
            "scope" | "home" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "preferred_lft" | "track_group" => {
                noted.push(format!("without {option}"));
            }
            "use_vmac" => noted.push("on the interface itself, without virtual MAC".to_owned()),
            other => noted.push(format!("without {other}, which is no option keepalived documents")),
        }
    }
    Ok(noted)
}
