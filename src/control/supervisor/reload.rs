//! Reload: read, check, bind, ask the worker, and only then believe it. Until the last step nothing has changed, and any
//! failure before it leaves everything as it was.

use super::{Client, Supervisor};
use crate::config;
use crate::config::bundle::Bundle;
use crate::config::outline::NEEDS_RESTART;
use crate::config::settings::Settings;
use crate::control::admin::Ticket;
use crate::control::certificates::CertificateWatch;
use crate::control::clock;
use crate::control::listeners::Listeners;
use crate::control::privileges::{Capabilities, Missing, unprivileged_port};
use crate::control::status::Answer;
use crate::serve::parent::Order;
use lyre_vrrp::params::Time;
use std::time::Duration;

/// For the worker to build its new state (certificates, pools) beside the old.
const RELOAD_TIME: Duration = Duration::from_secs(15);

/// A configuration that the worker is taking over.
pub(super) struct Reloading {
    candidate: Candidate,
    clients: Vec<Ticket>,
    pub(super) deadline: Time,
}

struct Candidate {
    settings: Settings,
    bundle: Bundle,
    added: Listeners,
    /// From right after its files were read, or right before.
    certificates: CertificateWatch,
}

/// For status and metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub done: u64,
    pub failed: u64,
    pub last_error: Option<String>,
    /// The speaker refused the routers of the settings and has those before.
    pub has_old_routers: bool,
}

impl Supervisor {
    pub(super) fn begin_reload(&mut self, now: Time, client: Client) {
        if self.is_stopping {
            return self.answer(now, client, 409, "stopping");
        }
        if self.reloading.is_some() {
            return self.answer(now, client, 409, "another reload is under way");
        }
        tracing::info!(target: "lyre::control", path = %self.bundle.path.display(), "reloading");
        self.notify.reloading(now.0 / 1000);
        let candidate = self.candidate();
        self.offer(now, client.into_iter().collect(), candidate);
    }

    /// Certificate files changed: the running configuration goes on with what is in them now, and with nothing else of
    /// what may have changed on disk.
    pub(super) fn begin_renewal(&mut self, now: Time) {
        tracing::info!(target: "lyre::control", "certificate files changed: reading them again");
        self.notify.reloading(now.0 / 1000);
        let candidate = self.renewed();
        self.offer(now, Vec::new(), candidate);
    }

    fn offer(&mut self, now: Time, clients: Vec<Ticket>, candidate: Result<Candidate, Vec<String>>) {
        match candidate {
            Err(errors) => self.refuse_reload(now, clients, errors),
            // It will start with the new configuration.
            Ok(candidate) if !self.worker.is_ready() => self.commit_reload(now, clients, candidate),
            Ok(candidate) => {
                let (added, sockets) = candidate.added.handout();
                let order = Order::Reload { bundle: Box::new(candidate.bundle.clone()), added };
                let is_told = self.worker.send(&order, &sockets);
                let reloading = Reloading { candidate, clients, deadline: now.plus(RELOAD_TIME) };
                self.reloading = Some(reloading);
                if !is_told {
                    self.fail_reload(now, "the worker does not answer");
                }
            }
        }
    }

    pub(super) fn worker_reloaded(&mut self, now: Time, error: Option<String>) {
        let Some(reloading) = self.reloading.take() else { return };
        match error {
            None => self.commit_reload(now, reloading.clients, reloading.candidate),
            Some(error) => self.refuse_reload(now, reloading.clients, vec![error]),
        }
    }

    /// Ends a reload under way, if there is one, with nothing changed.
    pub(super) fn fail_reload(&mut self, now: Time, why: &str) {
        if let Some(reloading) = self.reloading.take() {
            self.refuse_reload(now, reloading.clients, vec![why.to_owned()]);
        }
    }

    /// A worker that does not answer in time may have either configuration: it starts anew, with the old one.
    pub(super) fn expire_reload(&mut self, now: Time) {
        if self.reloading.as_ref().is_some_and(|reloading| now >= reloading.deadline) {
            self.fail_reload(now, "the worker did not take over the new configuration in time");
            self.worker.replace("did not answer a reload");
        }
    }

    /// Everything that can be found wrong without touching what runs.
    fn candidate(&self) -> Result<Candidate, Vec<String>> {
        let (settings, bundle) = config::load(&self.bundle.path, self.bundle.node.as_deref())
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let certificates = CertificateWatch::new(&settings, clock::now());
        if let Some((place, _)) = NEEDS_RESTART.iter().find(|(_, differ)| differ(&self.settings, &settings)) {
            return Err(vec![format!("{place} changes: that needs a restart")]);
        }
        let missing = Missing::of(&settings, Capabilities::of_this_process().or_by_limits(), unprivileged_port());
        if !missing.needed.is_empty() {
            return Err(vec![missing.to_string()]);
        }
        let added = self
            .listeners
            .bind_missing(&settings, self.cores)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(Candidate { settings, bundle, added, certificates })
    }

    /// The running configuration with the certificates as they are on disk.
    fn renewed(&self) -> Result<Candidate, Vec<String>> {
        let certificates = CertificateWatch::new(&self.settings, clock::now());
        let bundle = config::with_certificates_reread(&self.bundle, &self.settings)
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let renewed = config::from_bundle(&bundle)
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let settings = Settings { certificates: renewed.certificates, ..self.settings.clone() };
        Ok(Candidate { settings, bundle, added: Listeners::default(), certificates })
    }

    fn commit_reload(&mut self, now: Time, clients: Vec<Ticket>, candidate: Candidate) {
        let Candidate { settings, bundle, added, certificates } = candidate;
        self.listeners.extend(added);
        self.listeners.retain(&settings);
        let has_new_routers = self.reloads.has_old_routers || settings.routers != self.settings.routers;
        self.settings = settings;
        self.bundle = bundle;
        self.loaded_unix_ms = clock::unix_ms();
        self.view.set_hang_timeout(self.settings.worker.hang_timeout);
        self.tracks.reload(&self.settings);
        self.hooks.reload(&self.settings);
        self.certificates = certificates;
        self.reloads.done += 1;
        self.reloads.last_error = None;
        let mut answer = Answer { message: "reloaded".to_owned(), errors: Vec::new() };
        let outcome = match &self.pair {
            Some(pair) if has_new_routers => pair.reload(&self.settings),
            None if self.worker.is_ready() => self.ensure_pair(now),
            Some(_) | None => Ok(()),
        };
        self.reloads.has_old_routers = outcome.is_err();
        let mut status = 200;
        if let Err(error) = outcome {
            tracing::error!(target: "lyre::control", %error);
            self.reloads.failed += 1;
            self.reloads.last_error = Some(error.to_string());
            answer =
                Answer { message: "reloaded, but for the virtual routers".to_owned(), errors: vec![error.to_string()] };
            status = 500;
        }
        tracing::info!(target: "lyre::control", "{}", answer.message);
        self.answer_all(now, clients, status, &answer);
        self.notify.ready();
    }

    fn refuse_reload(&mut self, now: Time, clients: Vec<Ticket>, errors: Vec<String>) {
        for error in &errors {
            tracing::error!(target: "lyre::control", "not reloaded: {error}");
        }
        self.reloads.failed += 1;
        self.reloads.last_error = Some(errors.join("\n"));
        let answer = Answer { message: "not reloaded; nothing has changed".to_owned(), errors };
        self.answer_all(now, clients, 422, &answer);
        self.notify.ready();
    }
}
