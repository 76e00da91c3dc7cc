//! The questions to Nextcloud, through the web servers' pool. A lookup is a task of its own: whoever asked first may leave
//! and the others still get their answer.

use super::memory::time;
use crate::net::clock::Timer;
use crate::policy::exapp::decide::{Known, UserLookup};
use crate::policy::exapp::records::{self, Fetched, Lookup};
use crate::policy::exapp::{lookup, sessions};
use crate::serve::ask::ask as ask_server;
use crate::serve::balance::{self, Wish};
use crate::serve::core::{Core, PoolView};
use crate::serve::introduction;
use glommio::task::JoinHandle;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// As HaRP waits for both.
const PATIENCE: Duration = Duration::from_secs(25);

/// Those who wait for the lookup of another give it a little more.
const JOINED_PATIENCE: Duration = Duration::from_secs(30);

/// A record has at most some hundred routes.
const BODY_BYTES_MAX: usize = 1 << 20;

pub(super) enum Question {
    Record(records::Flight),
    JoinRecord(u64),
    /// For the app of this id, with these field lines.
    User(String, Vec<u8>, sessions::Flight),
    JoinUser(u64),
}

/// Finds out what is asked.
pub(super) async fn ask(core: &Rc<Core>, question: Question, known: &mut Known) {
    match question {
        Question::Record(flight) => {
            let landed = start_record(core.clone(), flight).await;
            known.record = Some(landed.unwrap_or(Lookup::Failed));
        }
        Question::User(id, fields, flight) => {
            let asking = find_user(core.clone(), id, fields, flight);
            let landed = glommio::spawn_local(asking).detach().await;
            known.user = Some(landed.unwrap_or(UserLookup::Failed));
        }
        Question::JoinRecord(number) => {
            let landed = joined(core, || core.shared.exapps.lock().records.get(number)).await;
            known.record = Some(landed.unwrap_or(Lookup::Failed));
        }
        Question::JoinUser(number) => {
            let landed = joined(core, || core.shared.exapps.lock().users.get(number)).await;
            known.user = Some(landed.unwrap_or(UserLookup::Failed));
        }
    }
}

async fn joined<T>(core: &Core, look: impl Fn() -> Option<T>) -> Option<T> {
    let timer = Timer::new();
    timer.arm(JOINED_PATIENCE);
    timer.bound(core.shared.exapps.waiting.until(look)).await.ok()
}

/// Looks an app up; goes on by itself.
pub(super) fn start_record(core: Rc<Core>, flight: records::Flight) -> JoinHandle<Lookup> {
    let asking = async move {
        let answer = get(&core, &lookup::record_url("", &flight.id), &[]).await;
        let fetched = answer.map_or(Fetched::Failed, |(status, body)| lookup::record(status, &body));
        if !matches!(fetched, Fetched::Found(_)) {
            tracing::debug!(app = flight.id, ?fetched, "Nextcloud gave no record of an ExApp");
        }
        let (number, now) = (flight.number(), time());
        let mut memory = core.shared.exapps.lock();
        let landed = memory.gateway.land_record(flight, fetched, now);
        memory.records.put(number, landed.clone(), now);
        drop(memory);
        core.shared.exapps.waiting.tell();
        landed
    };
    glommio::spawn_local(asking).detach()
}

async fn find_user(core: Rc<Core>, id: String, fields: Vec<u8>, flight: sessions::Flight) -> UserLookup {
    let answer = get(&core, &lookup::user_url("", &id), &fields).await;
    let user = answer.map_or(UserLookup::Failed, |(status, body)| lookup::user(status, &body));
    let (number, now) = (flight.number(), time());
    let mut memory = core.shared.exapps.lock();
    memory.gateway.land_user(flight, &user, now);
    if let Some(number) = number {
        memory.users.put(number, user.clone(), now);
    }
    drop(memory);
    core.shared.exapps.waiting.tell();
    user
}

/// Field lines of the client behind which Nextcloud is asked.
pub(super) fn forwarded(client: IpAddr, fields: &mut Vec<u8>) {
    fields.extend_from_slice(format!("X-Forwarded-For: {client}\r\n").as_bytes());
}

async fn get(core: &Rc<Core>, target: &str, fields: &[u8]) -> Option<(u16, Vec<u8>)> {
    let timer = Timer::new();
    timer.arm(PATIENCE);
    timer.bound(get_somewhere(core, target, fields)).await.ok().flatten()
}

/// From the first web server that answers, of two.
async fn get_somewhere(core: &Rc<Core>, target: &str, fields: &[u8]) -> Option<(u16, Vec<u8>)> {
    let view = core.view();
    let exapps = view.snapshot.settings.exapps.as_ref()?;
    let pool = view.pools.get(exapps.pool)?;
    let start = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Proto: https\r\nAccept: application/json\r\n\
         Connection: close\r\nharp-shared-key: ",
        exapps.host
    );
    let mut excluded = None;
    for _ in 0..2 {
        let request = [start.as_bytes(), &exapps.shared_key.0, b"\r\n", fields, b"\r\n"].concat();
        match get_once(core, pool, view.snapshot.source, excluded, request).await {
            Ok(answer) => return Some(answer),
            Err(tried) => excluded = Some(tried?),
        }
    }
    None
}

/// The error is which server failed, if there was one.
async fn get_once(
    core: &Rc<Core>,
    pool: &PoolView,
    source: Option<IpAddr>,
    excluded: Option<usize>,
    request: Vec<u8>,
) -> Result<(u16, Vec<u8>), Option<usize>> {
    let settings = &pool.shared.settings;
    let wish = Wish { is_light: true, document: None };
    let (slot, _) = balance::acquire(core, pool, excluded, wish, &Timer::new()).await.map_err(|_| None)?;
    let failed = |_| Some(slot.index);
    let stream = slot.upstream.idle.connect(&core.driver, source, settings.connect_timeout).await.map_err(failed)?;
    let mut whole = settings.send_proxy.map(introduction::own_header).unwrap_or_default();
    whole.extend(request);
    ask_server(&stream, whole, BODY_BYTES_MAX).await.map_err(failed)
}
