//! Facts to findings, one a check. Pure.

#[cfg(test)]
mod tests;

mod host;
mod lan;

use super::facts::Facts;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One word, the same in every run: `firewall`, `vrid`, …
    pub check: &'static str,
    /// A virtual router, or the host.
    pub subject: String,
    pub level: Level,
    pub message: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// Works, but not well, or could not be found out.
    Warn,
    /// The pair does not work like this.
    Fail,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings =
        vec![host::privileges(&facts.privileges), host::realtime(&facts.privileges), host::stolen_time(facts.ticks)];
    findings.extend(facts.peers.iter().map(host::peer));
    for router in &facts.routers {
        findings.push(host::link(router));
        if router.link.is_none() {
            continue; // nothing else can be told
        }
        findings.push(host::manager(router));
        findings.push(lan::vrid(router, &facts.peers));
        findings.push(lan::settings(router, &facts.peers));
        findings.push(lan::reception(router, facts.firewall.as_deref()));
        findings.push(lan::sending(router));
        findings.push(lan::silence(router, facts));
        findings.push(lan::actives(router, facts));
        findings.push(lan::address(router));
        findings.extend(lan::virtual_mac(router));
        findings.extend(lan::alarms(router));
    }
    findings
}

/// A finding about which nothing has to be done.
fn ok(check: &'static str, subject: &str, message: impl Into<String>) -> Finding {
    found(Level::Ok, check, subject, message, "")
}

fn found(
    level: Level,
    check: &'static str,
    subject: &str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { check, subject: subject.to_owned(), level, message: message.into(), remedy: remedy.into() }
}
