//! From checked settings to what the VRRP speaker runs.

use crate::config::settings::VirtualRouter;
use crate::config::settings::vip::{self, Authentication as Typed};
use lyre_vrrp::authentication::{Freshness, Key};
use lyre_vrrp::machine::{Preempt, Settings};
use lyre_vrrp::packet::{Checksum, ChecksumChoice, Dialect, Family, Password, Wire};
use lyre_vrrp::params::{Centis, Priority, Version, Vrid};
use lyre_vrrp::runner::{Authentication, Router, Speech};

/// `None` if a value got here that the configuration reader should have refused.
pub fn router(typed: &VirtualRouter) -> Option<Router> {
    let settings = settings(typed)?;
    let speech = speech(typed, settings.advert_interval)?;
    let router =
        Router::new(typed.name.clone(), typed.interface.clone(), settings, typed.addresses.clone(), typed.lease);
    Some(Router {
        speech,
        excluded: typed.excluded.clone(),
        virtual_mac: typed.virtual_mac.clone(),
        announcing: typed.announcing.clone(),
        sync_group: typed.sync_group.clone(),
        ..router
    })
}

fn settings(typed: &VirtualRouter) -> Option<Settings> {
    let addresses: Vec<_> = typed.addresses.iter().map(|address| address.addr()).collect();
    Some(Settings {
        vrid: Vrid::new(typed.vrid)?,
        family: Family::of(*addresses.first()?),
        version: if typed.version == 2 { Version::V2 } else { Version::V3 },
        priority: Priority(typed.priority),
        advert_interval: Centis::new(typed.advert_interval_cs)?,
        down_adverts: typed.down_adverts,
        preempt: typed.preempt.map_or(Preempt::Never, Preempt::After),
        addresses,
    })
}

fn speech(typed: &VirtualRouter, interval: Centis) -> Option<Speech> {
    let password = match &typed.authentication {
        Typed::Password(secret) => Some(Password::new(&secret.0)),
        Typed::None | Typed::Hmac(_) => None,
    };
    let authentication = match &typed.authentication {
        Typed::Hmac(hmac) => Some(signing(hmac)?),
        Typed::None | Typed::Password(_) => None,
    };
    let wire = if typed.version == 2 { Wire::V2 { interval, password } } else { Wire::V3 };
    let checksum = match typed.checksum {
        vip::Checksum::Auto => ChecksumChoice::AUTO,
        vip::Checksum::Pseudo => ChecksumChoice::Always(Checksum::Pseudo),
        vip::Checksum::Message => ChecksumChoice::Always(Checksum::Message),
    };
    let dialect = Dialect { wire, peers: typed.peers.clone(), has_trailer: authentication.is_some() };
    Some(Speech { dialect, checksum, source: typed.source, authentication })
}

fn signing(typed: &vip::Hmac) -> Option<Authentication> {
    let keys: Option<Vec<Key>> = typed.keys.iter().map(|key| Key::new(key.id, key.secret.0.to_vec())).collect();
    Authentication::new(keys?, typed.mode, typed.window.map_or(Freshness::Growth, |window| Freshness::Clock { window }))
}
