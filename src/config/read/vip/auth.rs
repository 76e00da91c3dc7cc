//! `auth`: the password of version 2, or the keys of signed adverts.

use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::read::{Context, files};
use crate::config::settings::Secret;
use crate::config::settings::vip::{Authentication, Hmac, HmacMode, Key};
use std::time::Duration;

/// keepalived cuts longer ones off, which nobody expects.
const PASSWORD_BYTES_MAX: usize = 8;

const KEYS_MAX: usize = 16;

const MODES: [(&str, HmacMode); 3] =
    [("enforce", HmacMode::Enforce), ("permissive", HmacMode::Permissive), ("receive-only", HmacMode::ReceiveOnly)];

const REPLAY: [(&str, bool); 2] = [("monotonic", false), ("time", true)];

/// Clocks that NTP keeps are closer by far; keepalived has the same floor.
const WINDOW_MIN: Duration = Duration::from_secs(5);

pub(super) fn read(c: &mut Context, item: Option<Item>, version: u8, interval_cs: u16) -> Authentication {
    let Some(item) = item else { return Authentication::None };
    let Some(mut section) = item.section(&mut c.f) else { return Authentication::None };
    let has_password = section.has("password_file") || section.has("password_env");
    let authentication = if has_password {
        password(c, &mut section, &item, version)
    } else {
        for name in ["password_file", "password_env"] {
            section.optional(name); // known, and not there
        }
        Authentication::Hmac(hmac(c, &mut section, interval_cs))
    };
    section.finish(&mut c.f);
    authentication
}

fn password(c: &mut Context, section: &mut Section, item: &Item, version: u8) -> Authentication {
    if version != 2 {
        let hint = "Write keys = [{ id = 1, file = \"vrrp.key\" }] instead, or version = 2.";
        item.error(&mut c.f, "only VRRP version 2 has passwords", hint);
    }
    if section.has("keys") {
        item.error(&mut c.f, "has a password and keys", "Keep one of them; both nodes must have the same.");
    }
    for name in ["keys", "mode", "replay", "window"] {
        section.optional(name);
    }
    let Some((place, secret)) = files::private(c, section, "password_file", "password_env") else {
        return Authentication::None;
    };
    if secret.as_ref().is_some_and(|secret| secret.0.len() > PASSWORD_BYTES_MAX) {
        let message = format!("the password has more than {PASSWORD_BYTES_MAX} bytes, all that an advert carries");
        c.f.error(&place, message, "keepalived uses only the first eight; write those.");
    }
    Authentication::Password(secret.unwrap_or(Secret(Vec::new().into())))
}

fn hmac(c: &mut Context, section: &mut Section, interval_cs: u16) -> Hmac {
    let hint = "Write keys = [{ id = 1, file = \"vrrp.key\" }], made by lyre keygen and the same on all nodes.";
    let list = section.required(&mut c.f, "keys", hint);
    let mode = section.choice(&mut c.f, "mode", &MODES, HmacMode::Enforce);
    let by_clock = section.choice(&mut c.f, "replay", &REPLAY, false);
    let window_item = section.optional("window");
    let window =
        window_item.as_ref().and_then(|i| i.duration(&mut c.f, Duration::from_millis(100)..=Duration::from_secs(3600)));
    if let (Some(item), false) = (&window_item, by_clock) {
        item.error(&mut c.f, "has no effect without replay = \"time\"", "Add that, or remove the line.");
    }
    let window = window.unwrap_or(WINDOW_MIN.max(Duration::from_millis(u64::from(interval_cs) * 30)));
    let keys = list.map(|list| keys(c, &list, hint)).unwrap_or_default();
    Hmac { keys, mode, window: by_clock.then_some(window) }
}

fn keys(c: &mut Context, list: &Item, hint: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for item in list.filled_list(&mut c.f, hint) {
        let Some(mut section) = item.section(&mut c.f) else { continue };
        let id = section.required(&mut c.f, "id", "Write id = 1, and the same for the same key on all nodes.");
        let id_place = id.as_ref().map_or_else(|| item.place.clone(), |id| id.place.clone());
        let id = id.and_then(|id| id.whole(&mut c.f, 1..=255)).and_then(|id| u8::try_from(id).ok());
        let secret = files::private(c, &mut section, "file", "env");
        section.finish(&mut c.f);
        if let Some(id) = id.filter(|id| keys.iter().any(|key| key.id == *id)) {
            c.f.error(&id_place, format!("there is a key {id} already"), "Each key has a number of its own.");
        }
        let (Some(id), Some((place, secret))) = (id, secret) else { continue };
        if let Some(secret) = &secret {
            check_key(c, &place, secret);
        }
        keys.push(Key { id, secret: secret.unwrap_or(Secret(Vec::new().into())) });
    }
    if keys.len() > KEYS_MAX {
        list.error(&mut c.f, format!("has more than {KEYS_MAX} keys"), "Remove those that no node signs with.");
    }
    keys
}

fn check_key(c: &mut Context, place: &Place, secret: &Secret) {
    let bytes = secret.0.len();
    if !(32..=64).contains(&bytes) {
        c.f.error(place, format!("the key has {bytes} bytes, not 32 to 64"), "Make one with lyre keygen.");
    }
}
