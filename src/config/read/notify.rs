//! `[[notify]]`: who is told when a virtual router changes its state.

use super::track::{absolute, command};
use super::{Context, vips, worker};
use crate::config::file::Section;
use crate::config::settings::VirtualRouter;
use crate::config::settings::track::{Command, Hook};
use std::time::Duration;

const HOOKS_MAX: usize = 64;

pub(super) fn read(c: &mut Context, sections: Vec<Section>, routers: &[VirtualRouter]) -> Vec<Hook> {
    if let Some(section) = sections.get(HOOKS_MAX) {
        let place = section.place.clone();
        c.f.error(&place, format!("there are more than {HOOKS_MAX} of these"), "");
    }
    sections.into_iter().map(|section| hook(c, section, routers)).collect()
}

fn hook(c: &mut Context, mut section: Section, routers: &[VirtualRouter]) -> Hook {
    let routers = vips::read(c, &mut section, routers);
    let mut script = |c: &mut Context, key: &'static str| -> Option<Command> {
        section.optional(key).and_then(|item| command(c, &item))
    };
    let [any, active, backup, fault, stop, contested] =
        ["any", "active", "backup", "fault", "stop", "contested"].map(|key| script(c, key));
    let fifo = section.optional("fifo").and_then(|item| item.text(&mut c.f)).map(|path| absolute(c, path));
    let user = section.optional("user").and_then(|item| worker::user(c, &item));
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let timeout = section.duration(&mut c.f, "timeout", range, Duration::from_secs(30));
    let place = section.place.clone();
    section.finish(&mut c.f);
    let scripts = [&any, &active, &backup, &fault, &stop, &contested];
    if scripts.iter().all(|script| script.is_none()) && fifo.is_none() && !c.f.has_errors() {
        c.f.error(&place, "nobody is told", "Add any = \"/path/of/a/script\", or fifo.");
    }
    Hook { routers, any, active, backup, fault, stop, contested, fifo, user, timeout }
}
