//! The text of lyre.toml.

use super::addresses::Address;
use super::hooks::Hook;
use super::instance::{Instance, Preempt, VirtualMac};
use super::nodes::Node;
use super::numbers::duration;
use super::servers::{Probe, Service};
use super::speech;
use super::trackers::Tracker;
use crate::import::findings::{Finding, one_line};
use crate::import::write::{self, block, comment, place, quoted};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) struct Document<'a> {
    pub(super) source: &'a Path,
    pub(super) host: &'a str,
    pub(super) nodes: &'a [Node],
    pub(super) instances: &'a [Instance],
    pub(super) services: &'a [Service],
    pub(super) trackers: &'a [Tracker],
    pub(super) hooks: &'a [Hook],
    pub(super) findings: &'a [Finding],
    pub(super) other_hosts: &'a BTreeMap<String, usize>,
}

impl Document<'_> {
    pub(super) fn write(&self) -> String {
        let mut out = String::new();
        self.head(&mut out);
        self.cluster(&mut out);
        for instance in self.instances {
            vip(&mut out, instance, &place(self.source, &instance.at));
        }
        self.trackers(&mut out);
        self.hooks(&mut out);
        self.services(&mut out);
        write::summary(&mut out, self.source, self.findings);
        out
    }

    fn head(&self, out: &mut String) {
        let source = format!("lyre import keepalived {} --host {}", self.source.display(), self.host);
        comment(out, &format!("Made by: {source}"));
        comment(out, "The same file belongs on both nodes. Correct what says FILL IN, then: lyre check");
        for (other, lines) in self.other_hosts.iter().filter(|(_, lines)| **lines > 0) {
            let count = if *lines == 1 { "1 line is".to_owned() } else { format!("{lines} lines are") };
            comment(out, &format!("{count} for @{other} only and left out; see them with --host {other}"));
        }
        if self.instances.iter().any(|instance| instance.problem.is_none()) && self.services.is_empty() {
            comment(
                out,
                "Without [nextcloud] or a [[route]] Lyre is only the pair: whatever serves on the addresses stays, and is not watched.",
            );
        }
    }

    fn cluster(&self, out: &mut String) {
        let preference = match self.nodes.first() {
            None => return,
            Some(node) => format!(
                "The first node is preferred: {}, as far as this one file tells. Compare the priorities of both nodes.",
                node.name
            ),
        };
        out.push_str("\n[cluster]\n");
        out.push_str(
            "secret_file = \"cluster.key\" # lyre keygen --out /etc/lyre/cluster.key, and copy it to the other node\n",
        );
        comment(out, &preference);
        out.push_str("nodes = [\n");
        for node in self.nodes {
            let line = format!("{{ name = {}, address = \"{}\" }},", quoted(&node.name), node.address);
            out.push_str(&format!("    {line} # {}\n", one_line(&node.comment)));
        }
        out.push_str("]\n");
    }

    fn trackers(&self, out: &mut String) {
        for tracker in self.trackers {
            let Some(vips) = self.vips(&tracker.vips) else { continue };
            out.push_str(&format!("\n[[track]]\nname = {}\n", quoted(&tracker.name)));
            tracker.lines.iter().chain(&vips).for_each(|line| out.push_str(&format!("{line}\n")));
        }
    }

    fn hooks(&self, out: &mut String) {
        for hook in self.hooks.iter().filter(|hook| !hook.lines.is_empty()) {
            let Some(vips) = self.vips(&hook.vips) else { continue };
            let of_group = |group: &String| format!("sync_groups = [{}]", quoted(group));
            let about = hook.group.as_ref().map(of_group).or(vips);
            out.push_str("\n[[notify]]\n");
            about.iter().chain(&hook.lines).for_each(|line| out.push_str(&format!("{line}\n")));
        }
    }

    /// The line that says whom something is for; empty if for all, none if for nobody who is left.
    fn vips(&self, indices: &[usize]) -> Option<Option<String>> {
        let live = |instance: &&Instance| instance.problem.is_none();
        let all = self.instances.iter().filter(live).count();
        let meant = indices.iter().filter_map(|index| self.instances.get(*index)).filter(live);
        let names: Vec<String> = meant.map(|instance| quoted(&instance.vip_name)).collect();
        match names.len() {
            _ if all == 0 => None,
            0 if !indices.is_empty() => None,
            count if count == all || indices.is_empty() => Some(None),
            _ => Some(Some(format!("vips = [{}]", names.join(", ")))),
        }
    }

    fn services(&self, out: &mut String) {
        for service in self.services {
            pool(out, service, &place(self.source, &service.at));
        }
        let live = self.services.iter().filter(|service| service.problem.is_none() && service.mode.is_none());
        let listeners: BTreeSet<(u16, bool)> = live.map(|service| (service.port, service.is_v6)).collect();
        for (port, is_v6) in listeners {
            out.push('\n');
            comment(out, "On every address, so that a Backup listens before it owns the virtual one.");
            let every = if is_v6 { "[::]" } else { "0.0.0.0" };
            out.push_str(&format!("[[listener]]\naddress = \"{every}:{port}\"\nkind = \"http\"\n"));
        }
    }
}

fn vip(out: &mut String, instance: &Instance, place: &str) {
    out.push('\n');
    comment(out, &format!("{place}: {}", title(instance)));
    for note in &instance.notes {
        comment(out, note);
    }
    let mut lines = vec!["[[vip]]".to_owned()];
    if !instance.vip_name.is_empty() {
        lines.push(format!("name = {}", quoted(&instance.vip_name)));
    }
    lines.extend(list("addresses", &instance.addresses));
    if !instance.excluded.is_empty() {
        lines.extend(list("excluded_addresses", &instance.excluded));
    }
    if let Some(interface) = &instance.interface {
        lines.push(format!("interface = {}", quoted(interface)));
    }
    lines.push(match instance.vrid {
        Some(vrid) => format!("vrid = {vrid}"),
        None => "vrid = 51 # FILL IN".to_owned(),
    });
    lines.push(format!("advert_interval = \"{}\"", duration(instance.interval_ms)));
    if let Some(count) = instance.down_adverts {
        lines.push(format!("down_adverts = {count}"));
    }
    lines.push(match instance.preempt {
        Preempt::Never => "preempt = false".to_owned(),
        Preempt::AtOnce => "preempt = true # as keepalived; false spares clients the second move".to_owned(),
        Preempt::AfterMs(ms) => format!("preempt = \"{}\"", duration(ms)),
    });
    lines.extend(instance.priorities.iter().map(|table| format!("priority = {table}")));
    lines.extend(instance.sync_group.iter().map(|group| format!("sync_group = {}", quoted(group))));
    lines.extend(speech::lines(instance));
    if instance.has_plain_checksum && instance.version == 3 && instance.addresses.iter().any(is_v4) {
        lines.push("checksum = \"rfc9568\"".to_owned());
    }
    lines.extend(instance.virtual_mac.as_ref().map(|mac| virtual_mac(mac, instance)));
    lines.extend(instance.garp.line());
    block(out, &lines, instance.problem.as_deref());
}

fn list(key: &str, addresses: &[Address]) -> Vec<String> {
    let written: Vec<String> = addresses.iter().map(|address| format!("\"{}\"", address.network)).collect();
    if written.len() <= 3 {
        return vec![format!("{key} = [{}]", written.join(", "))];
    }
    let inner = written.iter().map(|address| format!("    {address},"));
    std::iter::once(format!("{key} = [")).chain(inner).chain(["]".to_owned()]).collect()
}

fn is_v4(address: &Address) -> bool {
    address.network.addr().is_ipv4()
}

fn virtual_mac(mac: &VirtualMac, instance: &Instance) -> String {
    let has_both = instance.addresses.iter().any(is_v4) && !instance.addresses.iter().all(is_v4);
    let interface = mac.interface.iter().filter(|_| !has_both).map(|name| format!("interface = {}", quoted(name)));
    let base = mac.adverts_from_base.then(|| "adverts_from_base = true".to_owned());
    let keys: Vec<String> = interface.chain(base).collect();
    match keys.is_empty() {
        true => "virtual_mac = true".to_owned(),
        false => format!("virtual_mac = {{ {} }}", keys.join(", ")),
    }
}

fn title(instance: &Instance) -> String {
    let state = match instance.is_master {
        Some(true) => ", state MASTER",
        Some(false) => ", state BACKUP",
        None => "",
    };
    let priority = instance.priority.map(|priority| format!(", priority {priority}")).unwrap_or_default();
    format!("vrrp_instance {}{state}{priority}", instance.name)
}

fn pool(out: &mut String, service: &Service, place: &str) {
    out.push('\n');
    comment(out, &format!("{place}: virtual_server {}", service.shown));
    for note in &service.notes {
        comment(out, note);
    }
    let servers: Vec<String> = service.servers.iter().map(|server| format!("\"{server}\"")).collect();
    let mut lines = vec!["[[pool]]".to_owned(), format!("name = {}", quoted(&service.name))];
    match servers.as_slice() {
        short if short.len() <= 3 => lines.push(format!("servers = [{}]", short.join(", "))),
        long => {
            lines.push("servers = [".to_owned());
            lines.extend(long.iter().map(|server| format!("    {server},")));
            lines.push("]".to_owned());
        }
    }
    lines.push(format!("check = {{ {} }}", check(service)));
    lines.push(String::new());
    lines.push("[[route]]".to_owned());
    if !service.hosts.is_empty() {
        let hosts: Vec<String> = service.hosts.iter().map(|host| quoted(host)).collect();
        lines.push(format!("hosts = [{}]", hosts.join(", ")));
    }
    lines.push(format!("pool = {}", quoted(&service.name)));
    if service.mode.is_some() || service.problem.is_some() {
        // What cannot be used is shown as what it would be as a TCP service; as a pool it would be another thing.
        lines = vec!["[[tcp]]".to_owned(), format!("name = {}", quoted(&service.name))];
        lines.push(format!("listen = {}", quoted(&service.address)));
        lines.push(format!("servers = [{}]", servers.join(", ")));
        lines.extend(service.mode.map(|mode| format!("mode = {}", quoted(mode))));
        lines.extend(service.mode.map(|_| format!("check = {{ {} }}", check(service))));
    }
    block(out, &lines, service.problem.as_deref());
}

fn check(service: &Service) -> String {
    let mut parts = match &service.probe {
        Probe::Tcp => vec!["kind = \"tcp\"".to_owned()],
        Probe::Http { path, host } => {
            let host = host.iter().map(|host| format!("host = {}", quoted(host)));
            [vec!["kind = \"http\"".to_owned(), format!("path = {}", quoted(path))], host.collect()].concat()
        }
    };
    parts.extend(service.interval_ms.map(|ms| format!("interval = \"{}\"", duration(ms))));
    parts.extend(service.timeout_ms.map(|ms| format!("timeout = \"{}\"", duration(ms))));
    parts.extend(service.fall.map(|fall| format!("fall = {fall}")));
    parts.join(", ")
}
