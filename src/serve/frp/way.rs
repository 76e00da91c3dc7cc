//! What Nextcloud knows as a port of this host: behind a tunnel, or really here.

use super::tunnels::{Call, Tunnels};
use crate::net::clock::Timer;
use crate::net::driver::Driver;
use crate::net::stream::{FarStream, Stream};
use crate::net::target::{Opening, Order, Target, Way};
use crate::net::upstream;
use crate::proto::frp::session::Failure;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// As long as a server may take to answer. What a client that could not reach its app does not say is found out then, or
/// when nobody waits any longer.
const FIRST_BYTE: Duration = Duration::from_secs(1_800);

/// Asked for twice at most: a work connection can be lost on its way.
const OPENS_MAX: u32 = 2;

pub struct Behind {
    place: SocketAddr,
    here: Target,
    tunnels: Arc<Tunnels>,
}

impl Behind {
    pub fn new(place: SocketAddr, tunnels: Arc<Tunnels>) -> Behind {
        Behind { place, here: Target::Ip(place), tunnels }
    }

    /// A tunnel goes first. Without one the app may listen here (then this is the connection); and if it does not, its
    /// tunnel may be on the way back.
    async fn find(&self, driver: &Driver, timeout: Duration) -> io::Result<Option<Stream>> {
        let port = self.place.port();
        if self.tunnels.is_up(port) {
            return Ok(None);
        }
        match upstream::connect(driver, &self.here, None, timeout, Order::Proven).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && self.tunnels.may_come(port) => {}
            outcome => return outcome.map(Some),
        }
        self.tunnels.wait_up(port).await;
        Ok(None)
    }

    /// Through a tunnel that is up. Its session has a deadline of its own.
    async fn enter(&self) -> io::Result<Stream> {
        let call = Call { port: self.place.port(), from: self.place, to: self.place, first_byte: FIRST_BYTE };
        let mut opens = 0;
        loop {
            opens += 1;
            match self.tunnels.open(call).await {
                Ok(tunnel) => return Ok(Stream::Far(Box::new(FarStream::new(Box::new(tunnel))))),
                Err(Failure::Lost) if opens < OPENS_MAX => {}
                Err(failure) => return Err(error(failure)),
            }
        }
    }
}

impl Way for Behind {
    fn open<'a>(&'a self, driver: &'a Driver, timeout: Duration) -> Opening<'a> {
        Box::pin(async move {
            let timer = Timer::new();
            timer.arm(timeout);
            match timer.bound(self.find(driver, timeout)).await {
                Ok(Ok(Some(stream))) => Ok(stream),
                Ok(Ok(None)) => self.enter().await,
                Ok(Err(error)) => Err(error),
                // As if nobody listened: to wait was our idea.
                Err(_) => Err(error(Failure::NoProxy)),
            }
        })
    }
}

fn error(failure: Failure) -> io::Error {
    let kind = match failure {
        Failure::NoProxy | Failure::Lost => io::ErrorKind::ConnectionRefused,
        Failure::Timeout => io::ErrorKind::TimedOut,
        Failure::Busy => io::ErrorKind::ResourceBusy,
    };
    io::Error::new(kind, failure)
}
