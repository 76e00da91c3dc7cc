//! What is told of servers' names.

use super::label;
use crate::serve::resolve::{RESULTS, named};
use crate::serve::shared::{Server, Shared};
use std::collections::BTreeMap;
use std::fmt::{Result, Write};
use std::net::SocketAddr;

/// What its name resolves to; `None` for a server without one.
pub(super) fn addresses(server: &Server) -> Option<Vec<String>> {
    Some(server.target.name()?.addresses().list.iter().map(SocketAddr::to_string).collect())
}

pub(super) fn write(out: &mut String, shared: &Shared) -> Result {
    let snapshot = shared.snapshot();
    // Of one name the servers differ in their ports alone.
    let names: BTreeMap<&str, &Server> =
        named(&snapshot).filter_map(|server| Some((server.target.name()?.host.as_str(), server.as_ref()))).collect();
    if names.is_empty() {
        return Ok(());
    }
    let dns = &shared.dns;
    for (name, help, value) in [
        ("lyre_dns_questions_total", "Questions to DNS servers.", dns.questions.read()),
        ("lyre_dns_changes_total", "Times a name got other addresses.", dns.changes.read()),
    ] {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
    }
    let name = "lyre_dns_lookups_total";
    writeln!(out, "# HELP {name} Lookups of a name's IPv4 or IPv6 addresses, by their end.\n# TYPE {name} counter")?;
    for (result, count) in RESULTS.iter().zip(&dns.lookups) {
        writeln!(out, "{name}{{result=\"{result}\"}} {}", count.read())?;
    }
    type PerName = (&'static str, &'static str, fn(&Server) -> usize);
    let metrics: [PerName; 2] = [
        ("lyre_dns_addresses", "Addresses in use for a name.", |server| {
            server.target.name().map_or(0, |name| name.addresses().list.len())
        }),
        ("lyre_dns_stale", "1 if a name has no address, or only the last ones known.", |server| {
            server.target.trouble().is_some().into()
        }),
    ];
    for (name, help, read) in metrics {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
        for (host, server) in &names {
            writeln!(out, "{name}{{name=\"{}\"}} {}", label(host), read(server))?;
        }
    }
    Ok(())
}
