//! One of the two servers: its connections, and what it called the things that both have under names of their own.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use headwater_tests::schema::Schemas;
use serde_json::{Value, json};

use super::{names::Names, step::Step};

/// All waits that requests ask for are much shorter.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer answers are not asked for.
const MAX_ANSWER_BYTES: usize = 16 << 20;

const API_VERSIONS: i16 = 18;
const LAST_API_VERSIONS: i16 = 4;
/// In this version a server answers that it does not know the one that it was asked in.
const NEGOTIATION: i16 = 0;

/// What came of a request, as JSON: an answer, or one of these texts.
pub(super) const CLOSED: &str = "the connection was closed";
pub(super) const SILENT: &str = "there was no answer";
/// What a request without acknowledgement is answered with.
pub(super) const NOT_ACKNOWLEDGED: &str = "no answer, and the connection goes on";

/// A server under comparison.
pub(super) struct Side<'a> {
    address: SocketAddr,
    schemas: &'a Schemas,
    connections: BTreeMap<usize, Connection>,
    names: Names,
}

struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl<'a> Side<'a> {
    pub(super) fn new(address: SocketAddr, schemas: &'a Schemas) -> Self {
        Self { address, schemas, connections: BTreeMap::new(), names: Names::default() }
    }

    /// Sends the request, with this server's names in it.
    pub(super) fn send(&mut self, step: &Step) {
        let pair = self.schemas.named(&step.api);
        let body = self.names.to_server(&step.api, &step.body);
        let connection = self.connections.entry(step.connection).or_insert_with(|| {
            let connected = Connection::open(self.address);
            connected.unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.address))
        });
        connection.correlation += 1;
        let frame =
            pair.encode_request(step.version, connection.correlation, "differential", &body);
        let frame = frame.unwrap_or_else(|fault| panic!("{step}: {fault}"));
        // What came of it is seen when the answer is read.
        let _ = connection.write(&frame);
    }

    /// The answer to what was sent last on that connection, with names that both servers have.
    pub(super) fn receive(&mut self, step: &Step) -> Value {
        if step.api == "Produce" && step.body["Acks"] == 0 {
            return self.probe(step.connection);
        }
        let frame = match self.read(step.connection) {
            Ok(frame) => frame,
            Err(what) => return what.into(),
        };
        let pair = self.schemas.named(&step.api);
        let is_refused = pair.request.api_key == API_VERSIONS && step.version > LAST_API_VERSIONS;
        let version = if is_refused { NEGOTIATION } else { step.version };
        match pair.decode_response(version, &frame) {
            Ok((_, body)) => self.names.from_server(&step.api, &step.body, body),
            Err(fault) => json!(format!("not an answer: {fault}")),
        }
    }

    /// Whether the connection still serves.
    fn probe(&mut self, connection: usize) -> Value {
        let open = self.connections.get_mut(&connection).expect("a request was sent on it");
        let asked = open.ask_versions();
        match asked.and_then(|()| self.read(connection).map_err(io::Error::other)) {
            Ok(_) => NOT_ACKNOWLEDGED.into(),
            Err(_) => {
                self.connections.remove(&connection);
                CLOSED.into()
            }
        }
    }

    fn read(&mut self, connection: usize) -> Result<Vec<u8>, &'static str> {
        let open = self.connections.get_mut(&connection).expect("a request was sent on it");
        open.read().map_err(|error| {
            self.connections.remove(&connection);
            let waited = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            if waited.contains(&error.kind()) { SILENT } else { CLOSED }
        })
    }
}

impl Connection {
    /// Asks for the versions first, as every client does.
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self { stream, correlation: 0 };
        connection.ask_versions()?;
        connection.read()?;
        Ok(connection)
    }

    fn ask_versions(&mut self) -> io::Result<()> {
        self.correlation += 1;
        let mut frame = API_VERSIONS.to_be_bytes().to_vec();
        frame.extend_from_slice(&NEGOTIATION.to_be_bytes());
        frame.extend_from_slice(&self.correlation.to_be_bytes());
        frame.extend_from_slice(&(-1i16).to_be_bytes());
        self.write(&frame)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes)
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER_BYTES {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}
