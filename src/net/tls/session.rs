//! One side of one TLS connection as a byte machine: no socket, no waiting. Ciphertext goes in, plaintext comes out,
//! and the other way; what TLS itself wants to say (handshake, alerts, tickets) gathers in `control`.

use crate::net::pool;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};
use std::io;

/// What encryption adds to a record at most: header 5, TLS 1.2 nonce 8, content type 1, tag 16, rounded up.
const RECORD_OVERHEAD: usize = 32;

/// Room for words of TLS itself that must go out before the data: a key update is 27 bytes.
const CONTROL_BYTES: usize = 128;

/// Plaintext of a full record (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Room for `length` bytes of plaintext once encrypted.
pub(super) const fn sealed_bytes_max(length: usize) -> usize {
    length + (length / RECORD_BYTES + 1) * RECORD_OVERHEAD + CONTROL_BYTES
}

pub(super) enum Machine {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

pub(super) struct Session {
    machine: Machine,
    /// Ciphertext of an incomplete record. No allocation while empty.
    partial: Vec<u8>,
    /// Encrypted words of TLS itself, to be sent before anything encrypted later.
    control: Vec<u8>,
    is_finished: bool,
    failure: Option<Error>,
}

/// What one look at the machine brought.
enum Step {
    /// Look again.
    Progress,
    /// The peer's close_notify was read.
    Finished,
    /// It wants more bytes, or has nothing to do.
    Rest,
}

impl Session {
    pub(super) fn new(machine: Machine) -> Session {
        Session { machine, partial: Vec::new(), control: Vec::new(), is_finished: false, failure: None }
    }

    /// Takes in `ciphertext` (and decrypts in it), gives out plaintext to `sink`. Alerts of a failure are in the
    /// control bytes.
    pub(super) fn open(&mut self, ciphertext: &mut [u8], mut sink: impl FnMut(&[u8])) -> Result<(), Error> {
        if self.partial.is_empty() {
            let (used, result) = self.digest(ciphertext, &mut sink);
            if let Some(rest @ [_, ..]) = ciphertext.get(used..) {
                self.partial = pool::vector();
                self.partial.extend_from_slice(rest);
            }
            return result;
        }
        let mut gathered = std::mem::take(&mut self.partial);
        gathered.extend_from_slice(ciphertext);
        let (used, result) = self.digest(&mut gathered, &mut sink);
        gathered.drain(..used.min(gathered.len()));
        self.keep(gathered);
        result
    }

    /// Bytes of the incomplete record, to be put before the next ciphertext by [`Session::open_with_partial`].
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Like [`Session::open`] for a buffer whose first [`Session::partial_bytes`] bytes are free: the incomplete
    /// record goes there, which saves gathering the bulk elsewhere.
    pub(super) fn open_with_partial(&mut self, buffer: &mut [u8], sink: impl FnMut(&[u8])) -> Result<(), Error> {
        let partial = std::mem::take(&mut self.partial);
        if let Some(front) = buffer.get_mut(..partial.len()) {
            front.copy_from_slice(&partial);
        }
        pool::recycle(partial);
        self.open(buffer, sink)
    }

    /// Encrypts `plaintext` into `out`; `out` must have room for [`sealed_bytes_max`]. Answers the bytes written.
    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut gathered = std::mem::take(&mut self.partial);
        let result = self.when_writable(&mut gathered, &mut |state, _| {
            state.encrypt(plaintext, out).map_err(|error| Error::General(error.to_string()))
        });
        self.partial = gathered;
        result
    }

    /// Encrypts our close_notify into the control bytes.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let mut gathered = std::mem::take(&mut self.partial);
        let result = self.when_writable(&mut gathered, &mut close_with);
        self.partial = gathered;
        result.map(|_| ())
    }

    /// The control bytes gathered so far; empty if there are none.
    pub(super) fn take_control(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.control)
    }

    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Puts back what could not be sent yet, before what was added meanwhile.
    pub(super) fn return_control(&mut self, mut unsent: Vec<u8>) {
        unsent.extend_from_slice(&self.control);
        pool::recycle(std::mem::replace(&mut self.control, unsent));
    }

    /// The peer said that it sends no more.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    pub(super) fn facts(&self) -> &CommonState {
        match &self.machine {
            Machine::Server(machine) => machine,
            Machine::Client(machine) => machine,
        }
    }

    /// Feeds the machine until it rests. Answers how many bytes from the front it is done with.
    fn digest(&mut self, bytes: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> (usize, Result<(), Error>) {
        if let Some(error) = &self.failure {
            return (bytes.len(), Err(error.clone()));
        }
        let mut used = 0;
        loop {
            let (discard, step) = self.look(bytes.get_mut(used..).unwrap_or(&mut []), sink);
            used += discard;
            match step {
                Ok(Step::Progress) => {}
                Ok(Step::Finished) => self.is_finished = true,
                Ok(Step::Rest) => return (used, Ok(())),
                Err(error) => {
                    // One more look brings the alert, if there is one, and must be the last.
                    let _ = self.look(bytes.get_mut(used..).unwrap_or(&mut []), sink);
                    self.failure = Some(error.clone());
                    return (bytes.len(), Err(error));
                }
            }
        }
    }

    fn look(&mut self, bytes: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> (usize, Result<Step, Error>) {
        match &mut self.machine {
            Machine::Server(machine) => look(machine.process_tls_records(bytes), &mut self.control, sink),
            Machine::Client(machine) => look(machine.process_tls_records(bytes), &mut self.control, sink),
        }
    }

    /// Runs `act` on the machine once it may send application data.
    fn when_writable(&mut self, partial: &mut Vec<u8>, act: &mut Act<'_>) -> Result<usize, Error> {
        loop {
            let control = &mut self.control;
            let (discard, result) = match &mut self.machine {
                Machine::Server(machine) => write(machine.process_tls_records(partial), control, act),
                Machine::Client(machine) => write(machine.process_tls_records(partial), control, act),
            };
            partial.drain(..discard.min(partial.len()));
            match result? {
                Some(count) => return Ok(count),
                None => continue,
            }
        }
    }

    fn keep(&mut self, partial: Vec<u8>) {
        if partial.is_empty() {
            pool::recycle(partial);
        } else {
            self.partial = partial;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        pool::recycle(std::mem::take(&mut self.partial));
        pool::recycle(std::mem::take(&mut self.control));
    }
}

/// What to do once sending is allowed; it may add control bytes.
type Act<'a> = dyn FnMut(&mut dyn Writable, &mut Vec<u8>) -> Result<usize, Error> + 'a;

/// The two sides' "may send now" state, without its type parameter.
trait Writable {
    fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, EncryptError>;
    fn close_notify(&mut self, out: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<D> Writable for rustls::unbuffered::WriteTraffic<'_, D> {
    fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, EncryptError> {
        rustls::unbuffered::WriteTraffic::encrypt(self, plaintext, out)
    }

    fn close_notify(&mut self, out: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(out)
    }
}

fn close_with(state: &mut dyn Writable, control: &mut Vec<u8>) -> Result<usize, Error> {
    let start = control.len();
    control.resize(start + CONTROL_BYTES, 0);
    let room = control.get_mut(start..).unwrap_or(&mut []);
    let result = state.close_notify(room);
    control.truncate(start + *result.as_ref().unwrap_or(&0));
    result.map_err(|error| Error::General(error.to_string()))
}

/// One step of reading.
fn look<D>(
    status: UnbufferedStatus<'_, '_, D>,
    control: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut result = Ok(Step::Progress);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        sink(record.payload);
                    }
                    Err(error) => result = Err(error),
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(control, |room| data.encode(room));
            Ok(Step::Progress)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Progress)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::Finished),
        Ok(_) => Ok(Step::Rest),
    };
    (discard, step)
}

/// One step of writing: some once `act` could run.
fn write<D>(
    status: UnbufferedStatus<'_, '_, D>,
    control: &mut Vec<u8>,
    act: &mut Act<'_>,
) -> (usize, Result<Option<usize>, Error>) {
    let result = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => act(&mut traffic, control).map(Some),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(control, |room| data.encode(room));
            Ok(None)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(None)
        }
        Ok(ConnectionState::PeerClosed) => Ok(None),
        Ok(_) => Err(Error::HandshakeNotComplete),
    };
    (status.discard, result)
}

/// Appends one message of TLS itself to `control`.
fn encode(control: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = control.len();
    if control.capacity() == 0 {
        *control = pool::vector();
    }
    let mut room = 1024;
    loop {
        control.resize(start + room, 0);
        match write(control.get_mut(start..).unwrap_or(&mut [])) {
            Ok(count) => return control.truncate(start + count),
            Err(EncodeError::InsufficientSize(size)) => room = size.required_size,
            Err(EncodeError::AlreadyEncoded) => return control.truncate(start),
        }
    }
}

/// As the stream's error: a rustls error keeps its detail, the kind says that the peer's bytes were bad.
pub(super) fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
