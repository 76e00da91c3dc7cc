//! `virtual_mac`: false, true, or a table.

use crate::config::file::{Item, Section};
use crate::config::read::Context;
use crate::config::settings::vip::VirtualMac;

/// Of an interface name, as the kernel has it (IFNAMSIZ without its end).
const NAME_BYTES_MAX: usize = 15;

pub(super) struct Typed<'a> {
    mac: Option<VirtualMac>,
    interface: Option<Item<'a>>,
}

impl Typed<'_> {
    pub(super) fn value(&self) -> Option<VirtualMac> {
        self.mac.clone()
    }
}

pub(super) fn read<'a>(c: &mut Context, section: &mut Section<'a>) -> Typed<'a> {
    let off = Typed { mac: None, interface: None };
    let Some(item) = section.optional("virtual_mac") else { return off };
    if !item.is_table() {
        let on = item.flag(&mut c.f) == Some(true);
        return Typed { mac: on.then_some(VirtualMac { interface: None, adverts_from_base: false }), interface: None };
    }
    let Some(mut table) = item.section(&mut c.f) else { return off };
    let interface = table.optional("interface");
    let name = interface.as_ref().and_then(|item| interface_name(c, item));
    let base = table.optional("adverts_from_base").and_then(|item| item.flag(&mut c.f));
    table.finish(&mut c.f);
    Typed { mac: Some(VirtualMac { interface: name, adverts_from_base: base == Some(true) }), interface }
}

/// Two families are two macvlans.
pub(super) fn check(c: &mut Context, typed: &Typed, has_both_families: bool) {
    if let (Some(item), true) = (&typed.interface, has_both_families) {
        let hint = "Remove it: they are named vrrp4-VRID and vrrp6-VRID.";
        item.error(&mut c.f, "one name for the interfaces of two families", hint);
    }
}

fn interface_name(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    let is_fine = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_fine) {
        let hint = format!("Use at most {NAME_BYTES_MAX} letters, digits, hyphens and underscores.");
        item.error(&mut c.f, format!("{name:?} is no name for a new interface"), hint);
        return None;
    }
    if c.host.interfaces().iter().any(|known| known.name == name && !known.name.starts_with("vrrp")) {
        item.warning(&mut c.f, format!("this host has an interface {name} already"), "Take a name that nobody uses.");
    }
    Some(name.to_owned())
}
