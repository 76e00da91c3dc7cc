//! Which interface, and which addresses of it can be virtual.

use crate::config::bundle::Interface;
use crate::config::file::Item;
use crate::config::findings::Place;
use crate::config::read::Context;
use crate::config::settings::vip::unusable;
use ipnet::IpNet;
use std::net::IpAddr;

/// The interface's name, if this host has it.
pub(super) fn known_interface(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if c.host.interfaces().iter().any(|known| known.name == name) {
        return Some(name.to_owned());
    }
    let names: Vec<&str> = c.host.interfaces().iter().map(|known| known.name.as_str()).collect();
    let hint = format!("There is {}.", names.join(", "));
    item.error(&mut c.f, format!("this host has no interface {name}"), hint);
    None
}

/// No interface was named: the one whose networks hold the first address.
pub(super) fn found_interface(c: &mut Context, place: &Place, list: &[Item]) -> Option<String> {
    let first = list.first().filter(|item| item.is_text())?;
    let text = first.text(&mut c.f)?;
    let address: IpAddr = text.split('/').next()?.parse().ok()?;
    let holds = |interface: &&Interface| interface.addresses.iter().any(|own| own.contains(&address));
    let found: Vec<&str> = c.host.interfaces().iter().filter(holds).map(|known| known.name.as_str()).collect();
    let place = Place { key: format!("{}.interface", place.key), span: place.span.clone() };
    match found.as_slice() {
        [only] => return Some((*only).to_owned()),
        [] => {
            let message = format!("is missing, and no interface of this host is in a network with {address}");
            c.f.error(&place, message, "Write interface = \"eth0\".");
        }
        several => {
            let message = format!("is missing, and {address} could be on any of {}", several.join(", "));
            c.f.error(&place, message, "Write interface = \"eth0\".");
        }
    }
    None
}

/// `is_owner`: this node has priority 255, so the address may be its own.
pub(super) fn address(c: &mut Context, item: &Item, interface: Option<&Interface>, is_owner: bool) -> Option<IpNet> {
    let text = item.text(&mut c.f)?;
    let network = parse_address(c, item, text, interface)?;
    if let Some(reason) = unusable(network) {
        item.error(&mut c.f, format!("{text} {reason}"), "Take an unused address of the network.");
        return None;
    }
    if let Some(interface) = interface.filter(|interface| !is_owner || !is_on(interface, network.addr())) {
        check_reachable(c, item, network, interface);
    }
    Some(network)
}

pub(super) fn is_on(interface: &Interface, address: IpAddr) -> bool {
    interface.addresses.iter().any(|own| own.addr() == address)
}

fn parse_address(c: &mut Context, item: &Item, text: &str, interface: Option<&Interface>) -> Option<IpNet> {
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(network);
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        let hint = "Write address and prefix length, as \"192.0.2.10/24\" or \"2001:db8::10/64\".";
        item.error(&mut c.f, format!("{text:?} is no address"), hint);
        return None;
    };
    let own = interface.and_then(|interface| interface.addresses.iter().find(|own| own.contains(&address)));
    let hint = match own {
        Some(own) => format!("Write \"{address}/{}\", as {own} has.", own.prefix_len()),
        None => format!("Write \"{address}/{}\".", if address.is_ipv4() { 24 } else { 64 }),
    };
    item.error(&mut c.f, format!("{text} has no prefix length"), hint);
    None
}

/// A virtual address outside every network of its interface answers nobody there, unless somebody routes it here; who
/// does that on purpose writes the full prefix length. The address itself may already be installed: we may be Active.
fn check_reachable(c: &mut Context, item: &Item, network: IpNet, interface: &Interface) {
    let address = network.addr();
    let own: Vec<&IpNet> = interface
        .addresses
        .iter()
        .filter(|own| own.addr() != address && own.addr().is_ipv4() == address.is_ipv4())
        .collect();
    if network.prefix_len() == network.max_prefix_len() {
        return;
    }
    let Some(around) = own.iter().find(|own| own.contains(&address)) else {
        let name = &interface.name;
        let networks = own.iter().map(|own| own.to_string()).collect::<Vec<_>>().join(", ");
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = match own.is_empty() {
            true => format!("{name} has no {family} address, so no network that {address} is in"),
            false => format!("{address} is in no network of {name} ({networks})"),
        };
        let hint = format!(
            "Correct the address or the interface; if your routers send it here on purpose, write \"{address}/{}\".",
            network.max_prefix_len()
        );
        item.error(&mut c.f, message, hint);
        return;
    };
    if around.prefix_len() != network.prefix_len() {
        let message = format!("the prefix length differs from the network's on {} ({around})", interface.name);
        item.warning(&mut c.f, message, format!("Write \"{address}/{}\".", around.prefix_len()));
    }
}
