//! `[abuse]`: failed logins, bans, rates. Reasons of the defaults are in docs/configuration.md.

use super::{Context, web};
use crate::config::file::Section;
use crate::config::findings::Findings;
use crate::config::settings::{Abuse, Logins, Pool, Rate, Trust};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(c: &mut Context, root: &mut Section, trust: &Trust, pools: &[Pool]) -> Abuse {
    let typed = root.optional("abuse").and_then(|item| item.section(&mut c.f));
    let mut section = typed.unwrap_or_else(|| Section::absent("abuse"));
    let f = &mut c.f;
    let failures_max = section.count(f, "failed_logins", 0..=1_000_000, 30);
    let window = section.duration(f, "window", S..=DAY, 10 * MINUTE);
    let ban = section.duration(f, "ban", S..=365 * DAY, 10 * MINUTE);
    let ban_max = section.optional("ban_max");
    let longest = ban_max.as_ref().and_then(|item| item.duration(f, S..=365 * DAY)).unwrap_or_else(|| ban.max(DAY));
    if let Some(item) = ban_max.filter(|_| longest < ban) {
        item.error(f, "is less than the first ban", "Raise it, or lower ban.");
    }
    let tarpit = section.duration(f, "tarpit", Duration::ZERO..=MINUTE, 2 * S);
    let closes_banned = section.choice(f, "banned", &[("answer", false), ("close", true)], false);
    let requests = rate(f, &mut section, "requests_per_second", "request_burst");
    let connections = rate(f, &mut section, "connections_per_second", "connection_burst");
    let exempt = section.optional("exempt");
    section.finish(f);
    let exempt = exempt.map(|item| web::networks(c, &item, &[]).0).unwrap_or_default();
    let installation = installation(trust, pools).collect();
    let logins = (failures_max > 0).then_some(Logins { failures_max, window, ban, ban_max: longest });
    Abuse { logins, tarpit, closes_banned, requests, connections, exempt, installation }
}

/// Everything that speaks for many, or for us: a ban of a proxy would be one of everybody behind it.
fn installation(trust: &Trust, pools: &[Pool]) -> impl Iterator<Item = IpNet> {
    let loopback = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(|text| text.parse().ok());
    let servers = pools.iter().flat_map(|pool| &pool.servers).filter_map(|server| server.place.ip());
    let servers = servers.map(|address| address.ip().to_canonical());
    let hosts: Vec<IpAddr> = trust.services.iter().chain(&trust.own).copied().chain(servers).collect();
    loopback.chain(trust.proxies.clone()).chain(hosts.into_iter().map(IpNet::from))
}

/// Off unless written. The burst is ten seconds' worth unless written.
fn rate(f: &mut Findings, section: &mut Section, name: &'static str, burst_name: &'static str) -> Option<Rate> {
    let per_second = section.optional(name).and_then(|item| item.whole(f, 1..=10_000));
    let burst = section.optional(burst_name);
    if let (Some(item), None) = (&burst, per_second) {
        item.error(f, "says nothing without a rate", format!("Write {name} too."));
    }
    let per_second = u32::try_from(per_second?).ok()?;
    let burst = burst.and_then(|item| item.whole(f, 1..=1_000_000)).and_then(|burst| u32::try_from(burst).ok());
    Some(Rate { per_second, burst: burst.unwrap_or(10 * per_second) })
}
