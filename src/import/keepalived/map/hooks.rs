//! `notify_*`: scripts that are told.

use super::trackers::command;
use crate::import::findings::Findings;
use crate::import::keepalived::tree::Statement;
use crate::import::write::quoted;

/// One `[[notify]]`.
pub(super) struct Hook {
    /// Indices of the instances; empty means all.
    pub(super) vips: Vec<usize>,
    /// Told of this sync group and not of the instances.
    pub(super) group: Option<String>,
    /// Keys and values.
    pub(super) lines: Vec<String>,
}

impl Hook {
    pub(super) fn of(vips: Vec<usize>) -> Hook {
        Hook { vips, group: None, lines: Vec::new() }
    }
}

const KEYS: [(&str, &str); 6] = [
    ("notify", "any"),
    ("notify_master", "active"),
    ("notify_backup", "backup"),
    ("notify_fault", "fault"),
    ("notify_stop", "stop"),
    ("notify_master_rx_lower_pri", "contested"),
];

/// Takes a statement; false if it is none of these.
pub(super) fn read(findings: &mut Findings, hook: &mut Hook, statement: &Statement) -> bool {
    let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == statement.name()) else { return false };
    // keepalived takes a quoted command as one word, and the account behind it.
    let (text, user) = match statement.arguments.as_slice() {
        [command] => (command.text.clone(), None),
        [command, user, ..] if command.text.contains(' ') => (command.text.clone(), Some(user.text.clone())),
        words => (words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "), None),
    };
    if text.trim().is_empty() {
        findings.refused(statement, "names no script");
        return true;
    }
    let prefix = format!("{key} = ");
    if hook.lines.iter().any(|line| line.starts_with(&prefix)) {
        findings.refused(statement, "there is one already; call both from one script");
        return true;
    }
    hook.lines.push(format!("{prefix}{}", command(&text)));
    match user {
        None => findings.mapped(statement, format!("notify.{key}")),
        Some(user) => {
            let why =
                format!("notify.{key}, but not as {user}: scripts run without privileges unless notify.user says so");
            findings.remark(statement, why);
        }
    }
    true
}

/// Of `global_defs`: for all instances.
pub(super) fn fifo(findings: &mut Findings, statement: &Statement) -> Option<Hook> {
    let path = statement.argument(0).filter(|path| path.starts_with('/'))?;
    findings.mapped(statement, "notify.fifo");
    Some(Hook { lines: vec![format!("fifo = {}", quoted(path))], ..Hook::of(Vec::new()) })
}

/// `notify_priority_changes` of an instance, a group or all: the FIFO is one for all.
pub(super) fn priority_changes(findings: &mut Findings, hooks: &mut [Hook], statements: &[Statement]) {
    let blocks = statements.iter().filter(|statement| !statement.inside().is_empty());
    let inside = blocks.flat_map(|block| block.inside().iter().map(move |statement| (block.name(), statement)));
    for (block, statement) in inside {
        if !matches!(statement.name(), "notify_priority_changes" | "vrrp_notify_priority_changes") {
            continue;
        }
        if statement.argument(0).is_some_and(|word| matches!(word, "off" | "false" | "no")) {
            findings.ignored(statement, "off by default");
            continue;
        }
        let Some(fifo) = hooks.iter_mut().find(|hook| hook.lines.iter().any(|line| line.starts_with("fifo = "))) else {
            findings.ignored(statement, "there is no FIFO that could be told");
            continue;
        };
        let line = "priority_changes = true".to_owned();
        if !fifo.lines.contains(&line) {
            fifo.lines.push(line);
        }
        match block {
            "global_defs" => findings.mapped(statement, "notify.priority_changes"),
            _ => findings.remark(statement, "notify.priority_changes, for every router"),
        }
    }
}
