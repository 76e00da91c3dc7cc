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

/// In instances only: of a sync group that a reload removes, keepalived tells nothing.
const DELETED: &str = "deleted";
/// Without a script of its own.
const DELETED_TOO: &str = "deleted = true";

const KEYS: [(&str, &str); 7] = [
    ("notify", "any"),
    ("notify_master", "active"),
    ("notify_backup", "backup"),
    ("notify_fault", "fault"),
    ("notify_stop", "stop"),
    ("notify_deleted", DELETED),
    ("notify_master_rx_lower_pri", "contested"),
];

/// Takes a statement; false if it is none of these.
pub(super) fn read(findings: &mut Findings, hook: &mut Hook, statement: &Statement) -> bool {
    let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == statement.name()) else { return false };
    let prefix = format!("{key} = ");
    if hook.lines.iter().any(|line| line.starts_with(&prefix)) {
        findings.refused(statement, "there is one already; call both from one script");
        return true;
    }
    if *key == DELETED && statement.arguments.is_empty() {
        hook.lines.push(DELETED_TOO.to_owned());
        findings.mapped(statement, "notify.deleted");
        return true;
    }
    let (text, user) = script(statement);
    if text.trim().is_empty() {
        findings.refused(statement, "names no script");
        return true;
    }
    hook.lines.push(format!("{prefix}{}", command(&text)));
    note(findings, statement, key, user);
    true
}

/// keepalived takes a quoted command as one word, and the account behind it.
fn script(statement: &Statement) -> (String, Option<String>) {
    match statement.arguments.as_slice() {
        [command] => (command.text.clone(), None),
        [command, user, ..] if command.text.contains(' ') => (command.text.clone(), Some(user.text.clone())),
        words => (words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "), None),
    }
}

fn note(findings: &mut Findings, statement: &Statement, key: &str, user: Option<String>) {
    match user {
        None => findings.mapped(statement, format!("notify.{key}")),
        Some(user) => {
            let why =
                format!("notify.{key}, but not as {user}: scripts run without privileges unless notify.user says so");
            findings.remark(statement, why);
        }
    }
}

/// Of `global_defs`: for all instances.
pub(super) fn fifo(findings: &mut Findings, statement: &Statement) -> Option<Hook> {
    let path = statement.argument(0).filter(|path| path.starts_with('/'))?;
    match statement.argument(1) {
        None => findings.mapped(statement, "notify.fifo"),
        Some(user) => {
            let why = format!("notify.fifo, but not {user}'s: it belongs to whom the reader runs as, see notify.user");
            findings.remark(statement, why);
        }
    }
    Some(Hook { lines: vec![fifo_line(path)], ..Hook::of(Vec::new()) })
}

fn fifo_line(path: &str) -> String {
    format!("fifo = {}", quoted(path))
}

/// What instances say about removals holds for the lines of FIFOs, too. Where nobody else is told, it says nothing.
pub(super) fn removals(hooks: &mut [Hook]) {
    let is_told = |hook: &Hook| hook.lines.iter().any(|line| line.starts_with("deleted = "));
    if hooks.iter().any(is_told) {
        let fifos = hooks.iter_mut().filter(|hook| hook.lines.iter().any(|line| line.starts_with("fifo = ")));
        fifos.for_each(|hook| hook.lines.push(DELETED_TOO.to_owned()));
    }
    hooks.iter_mut().filter(|hook| hook.lines == [DELETED_TOO]).for_each(|hook| hook.lines.clear());
}

/// The readers of FIFOs, which may be named before them.
pub(super) fn fifo_scripts(findings: &mut Findings, hooks: &mut [Hook], statements: &[Statement]) {
    let global = || statements.iter().filter(|s| s.name() == "global_defs").flat_map(Statement::inside);
    for statement in global() {
        let Some(fifo) = statement.name().strip_suffix("_script").filter(|name| FIFOS.contains(name)) else { continue };
        let mut lines =
            global().filter(|other| other.name() == fifo).filter_map(|other| other.argument(0)).map(fifo_line);
        let Some(hook) = lines.next_back().and_then(|line| hooks.iter_mut().find(|hook| hook.lines.contains(&line)))
        else {
            findings.refused(statement, format!("there is no {fifo} that it could read"));
            continue;
        };
        let (text, user) = script(statement);
        let is_there = hook.lines.iter().any(|line| line.starts_with("fifo_script = "));
        if text.trim().is_empty() || is_there {
            findings.refused(statement, if is_there { "there is one already" } else { "names no script" });
            continue;
        }
        hook.lines.push(format!("fifo_script = {}", command(&text)));
        note(findings, statement, "fifo_script", user);
    }
}

const FIFOS: [&str; 2] = ["notify_fifo", "vrrp_notify_fifo"];

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
