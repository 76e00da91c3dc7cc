//! `[[listener]]`: where clients connect. Without any, ports 80 and 443 of every address.

use super::{Context, tls, web};
use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::names;
use crate::config::settings::{Listener, ListenerKind};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const KINDS: [(&str, ListenerKind); 3] =
    [("http", ListenerKind::Http), ("https", ListenerKind::Https), ("redirect", ListenerKind::RedirectToHttps)];

/// Listeners times cores is descriptors passed at once.
const LISTENERS_MAX: usize = 32;

/// `has_routes` is false when there is nothing to serve and so nothing to listen for.
pub(super) fn read(c: &mut Context, sections: Vec<Section>, tls: &[tls::Read], has_routes: bool) -> Vec<Listener> {
    if sections.is_empty() {
        return if has_routes { defaults(c, tls) } else { Vec::new() };
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for mut section in sections {
        let address = section.required(&mut c.f, "address", "Write address = \"127.0.0.1:8080\".");
        let kind = section.required(&mut c.f, "kind", "Write kind = \"http\", \"https\" or \"redirect\".");
        let proxies = section.optional("proxy_protocol");
        section.finish(&mut c.f);
        let proxy_protocol = proxies.map(|item| proxies_of(c, &item)).unwrap_or_default();
        let kind_item = kind.clone();
        let kind = kind.and_then(|item| item.choice(&mut c.f, &KINDS));
        if let (Some(item), Some(ListenerKind::Https), true) = (kind_item, kind, tls.is_empty()) {
            item.error(&mut c.f, "there is no certificate to serve https with", "Add [tls] with certificates.");
        }
        let Some(address) = address.and_then(|item| address_of(c, &item, kind, &listeners)) else { continue };
        listeners.push(Listener { address, kind: kind.unwrap_or(ListenerKind::Http), proxy_protocol });
    }
    if listeners.len() > LISTENERS_MAX {
        let place = Place { key: "listener".to_owned(), span: 0..0 };
        c.f.error(&place, format!("there are more than {LISTENERS_MAX} listeners"), "");
    }
    let serves_tls = listeners.iter().any(|listener| listener.kind == ListenerKind::Https);
    if let (Some(first), false, false) = (tls.first(), serves_tls, c.f.has_errors()) {
        first.item.warning(&mut c.f, "no listener uses this certificate", "Give one kind = \"https\".");
    }
    listeners
}

/// Plain wildcard of each family: the node listens before it owns the virtual address.
fn defaults(c: &mut Context, tls: &[tls::Read]) -> Vec<Listener> {
    let mut families = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    if c.host.interfaces().iter().flat_map(|i| &i.addresses).any(|network| network.addr().is_ipv6()) {
        families.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    let ports: &[(u16, ListenerKind)] = if tls.is_empty() {
        if !c.f.has_errors() {
            let place = Place { key: "tls".to_owned(), span: 0..0 };
            let message = "there is no certificate, so everything is plain HTTP on port 80";
            c.f.warning(&place, message, "Add [tls] with certificates, or a [[listener]] to say that this is meant.");
        }
        &[(80, ListenerKind::Http)]
    } else {
        &[(80, ListenerKind::RedirectToHttps), (443, ListenerKind::Https)]
    };
    let each = |&(port, kind): &(u16, ListenerKind)| {
        families
            .iter()
            .map(move |ip| Listener { address: SocketAddr::new(*ip, port), kind, proxy_protocol: Vec::new() })
            .collect::<Vec<_>>()
    };
    ports.iter().flat_map(each).collect()
}

/// Who may connect where a PROXY header is wanted: naming nobody would be a listener for nobody.
fn proxies_of(c: &mut Context, item: &Item) -> Vec<IpNet> {
    let hint = "Name the balancers in front: proxy_protocol = [\"10.0.0.5\"].";
    if item.is_flag() {
        item.error(&mut c.f, "must be the list of those who send the header", hint);
        return Vec::new();
    }
    item.filled_list(&mut c.f, hint);
    if item.is_list() { web::networks(c, item, &[]).0 } else { Vec::new() }
}

fn address_of(c: &mut Context, item: &Item, kind: Option<ListenerKind>, before: &[Listener]) -> Option<SocketAddr> {
    let text = item.text(&mut c.f)?;
    let port = if kind == Some(ListenerKind::Https) { 443 } else { 80 };
    let every = text.strip_prefix('*').unwrap_or(text).strip_prefix(':').filter(|port| port.parse::<u16>().is_ok());
    if let Some(port) = every {
        let hint =
            format!("Write \"0.0.0.0:{port}\" for every IPv4 address, and another with \"[::]:{port}\" for IPv6.");
        item.error(&mut c.f, format!("{text:?} names no address family"), hint);
        return None;
    }
    let address = match names::endpoint(text, port) {
        Ok(address) => address,
        Err((message, hint)) => {
            item.error(&mut c.f, message, hint);
            return None;
        }
    };
    if address.ip().is_multicast() {
        item.error(&mut c.f, format!("{} is a multicast address", address.ip()), "");
        return None;
    }
    if let IpAddr::V6(ip) = address.ip()
        && let Some(mapped) = ip.to_ipv4_mapped()
    {
        let hint = format!("Write \"{mapped}:{}\".", address.port());
        item.error(&mut c.f, format!("{ip} is an IPv4 address in IPv6 form"), hint);
        return None;
    }
    if before.iter().any(|other| other.address == address) {
        item.error(&mut c.f, format!("two listeners have {address}"), "Remove one of them.");
        return None;
    }
    Some(address)
}
