//! The one task of a bridge: polls the client, appends, waits for durability, acknowledges, reconnects.
//!
//! A poll of the client is never cancelled (it could lose an acknowledgement that it has taken from its
//! queue); everything else happens between two wake-ups of the same poll. As acknowledgements are handed
//! over by the task that sees the session end, none can slip into the next session.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    hash::{BuildHasher, RandomState},
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS,
    SubAck, SubscribeFilter, SubscribeReasonCode,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Board, address,
    intake::{Intake, Number, Receipt},
    records::{REJECTED_TOPIC, rejection, request},
    subscriptions::Subscriptions,
};
use crate::{
    Shutdown,
    broker::{AppendError, Broker, Commit, Topic, TopicError},
    config::BridgeConfig,
    journal::{AdmitError, Poisoned},
};

/// PINGREQ after this much silence of ours.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Seconds for connecting, CONNACK included.
const CONNECT_TIMEOUT_SECS: u64 = 10;
/// Largest packet that is read. A larger one cannot even be acknowledged (its packet id is inside), so the
/// bridge stands still and says so.
const MAX_PACKET_BYTES: usize = 32 * 1024 * 1024;
/// MQTT's own limit of a string.
const MAX_FILTER_BYTES: usize = u16::MAX as usize;
/// Acknowledgements handed to the client at once; the rest wait in the intake.
const REQUESTS: usize = 256;
/// Appends on their way to the disk; more wait and gather into fewer, larger ones.
const MAX_APPENDS: usize = 32;
/// Pause after an append that was refused for now.
const RETRY: Duration = Duration::from_millis(100);
/// First pause before a reconnect; doubles up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause before a reconnect.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time that a stop may take to acknowledge what is on its way to the disk.
const DRAIN: Duration = Duration::from_secs(1);

/// The client's options, or what is wrong with the configuration.
pub(super) fn options(config: &BridgeConfig) -> io::Result<MqttOptions> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let (host, port) = address(&config.broker)?;
    if config.client_id.is_empty() {
        return Err(invalid(
            "mqtt bridge: client_id is empty; a persistent session needs one".into(),
        ));
    }
    let legal = |filter: &String| rumqttc::valid_filter(filter) && filter.len() <= MAX_FILTER_BYTES;
    if let Some(filter) = config.filters.iter().find(|filter| !legal(filter)) {
        return Err(invalid(format!("mqtt bridge: {filter:?} is no legal topic filter")));
    }
    if config.filters.is_empty() {
        return Err(invalid("mqtt bridge: filters is empty".into()));
    }
    let mut options = MqttOptions::new(&config.client_id, host, port);
    options
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    if let Some(username) = &config.username {
        options.set_credentials(username, config.password.clone().unwrap_or_default());
    }
    Ok(options)
}

/// A running bridge.
pub(super) struct Session {
    config: BridgeConfig,
    broker: Arc<Broker>,
    board: Board,
    intake: Intake,
    subscriptions: Subscriptions,
    /// Appends in the order of their admission, each with the number that it makes durable.
    appends: VecDeque<(Number, PendingCommit)>,
    /// Messages of the next append; shrinks when an append is too large.
    chunk: usize,
    retry_at: Option<Instant>,
    subscribed: bool,
    link: Link,
    /// Set when a stop was asked for: the latest end.
    stop_at: Option<Instant>,
    /// Set when the journal stopped: nothing will ever be acknowledged again.
    poisoned: bool,
}

/// The session as far as this task has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Up,
    /// DISCONNECT is queued behind the last acknowledgements.
    Leaving,
}

type PendingCommit = Pin<Box<dyn Future<Output = Result<(), Poisoned>> + Send>>;

impl Session {
    pub(super) fn new(config: BridgeConfig, broker: Arc<Broker>, board: Board) -> Self {
        let subscriptions = Subscriptions::load(&config, &broker);
        Self {
            config,
            broker,
            board,
            intake: Intake::default(),
            subscriptions,
            appends: VecDeque::new(),
            chunk: usize::MAX,
            retry_at: None,
            subscribed: false,
            link: Link::Down,
            stop_at: None,
            poisoned: false,
        }
    }

    pub(super) async fn run(mut self, options: MqttOptions, shutdown: &Shutdown) {
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        let mut network = events.network_options();
        network.set_connection_timeout(CONNECT_TIMEOUT_SECS);
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let mut pauses = Pauses::default();
        let mut pause = Duration::ZERO;
        loop {
            pause = match self.poll(&client, &mut events, pause, shutdown).await {
                None => break,
                Some(Ok(event)) => self.handle(&client, event, &mut pauses),
                Some(Err(error)) => {
                    // Packets that came before the end are still queued, and would otherwise show up in
                    // the next session as if they were of it.
                    for event in events.state.events.drain(..) {
                        if let Event::Incoming(Packet::Publish(publish)) = event {
                            self.receive(publish);
                        }
                    }
                    self.lost(&error.to_string(), &mut pauses)
                }
            };
            if self.intake.has_too_many_acks() {
                events.clean();
                events.state.events.clear();
                pause = self.lost("more messages in flight than there are packet ids", &mut pauses);
            }
        }
        self.board.update(|status| status.connected = false);
        if self.poisoned {
            // The broker keeps what follows; the process stays up so that reads go on.
            drop(events);
            shutdown.requested().await;
        }
    }

    /// The client's next event, and everything that can be done until it comes. None: the task ends.
    async fn poll(
        &mut self,
        client: &AsyncClient,
        events: &mut EventLoop,
        pause: Duration,
        shutdown: &Shutdown,
    ) -> Option<Result<Event, ConnectionError>> {
        let mut poll = pin!(async {
            // Even a sleep of no length takes a tick of the timer, a millisecond.
            if !pause.is_zero() {
                sleep(pause).await;
            }
            events.poll().await
        });
        loop {
            self.acknowledge(client);
            if self.is_over(client) {
                return None;
            }
            let gate = Gate::of(self);
            tokio::select! {
                biased;
                () = shutdown.requested(), if self.stop_at.is_none() => self.begin_stop(),
                () = deadline(self.stop_at) => return None,
                result = front(&mut self.appends) => self.committed(result),
                () = gate.opens(), if self.intake.fills_a_chunk() => self.append().await,
                event = &mut poll, if !self.intake.is_full() => return Some(event),
                () = gate.opens(), if self.intake.has_waiting() => self.append().await,
            }
        }
    }

    fn begin_stop(&mut self) {
        self.stop_at = Some(Instant::now() + DRAIN);
        // Not appended means not acknowledged: the broker sends these again.
        self.intake.forget_waiting();
    }

    /// Whether the task ends here: at once when the journal stopped; when asked to stop, after everything
    /// on its way to the disk is acknowledged and the DISCONNECT behind it has left.
    fn is_over(&mut self, client: &AsyncClient) -> bool {
        if self.poisoned {
            return true;
        }
        if self.stop_at.is_none() || !self.appends.is_empty() || self.intake.next_ack().is_some() {
            return false;
        }
        if self.link == Link::Up && client.try_disconnect().is_ok() {
            self.link = Link::Leaving;
        }
        self.link == Link::Down
    }

    /// Returns the pause before the next poll.
    fn handle(&mut self, client: &AsyncClient, event: Event, pauses: &mut Pauses) -> Duration {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                tracing::info!(
                    broker = %self.config.broker,
                    resumed = connack.session_present,
                    "mqtt bridge connected"
                );
                self.board.update(|status| {
                    status.connected = true;
                    status.last_error = None;
                });
                self.link = Link::Up;
                self.intake.connected(connack.session_present);
                // Subscribing again would make the broker send all retained messages again.
                if !(connack.session_present && self.subscribed) {
                    self.subscribe(client, connack.session_present);
                }
            }
            Event::Incoming(Packet::SubAck(suback)) => {
                pauses.reset();
                self.subscribed(&suback);
            }
            Event::Incoming(Packet::UnsubAck(_)) => self.unsubscribed(),
            Event::Incoming(Packet::Publish(publish)) => {
                pauses.reset();
                self.receive(publish);
            }
            Event::Outgoing(Outgoing::Disconnect) => self.link = Link::Down,
            _ => {}
        }
        Duration::ZERO
    }

    fn unsubscribed(&mut self) {
        if self.subscriptions.unsubscribed() {
            self.subscriptions.store(&self.broker);
        }
    }

    fn receive(&mut self, publish: Publish) {
        if self.stop_at.is_some() {
            return;
        }
        let new = self.intake.publish(publish, unix_ms());
        self.board.update(|status| {
            status.received += 1;
            status.repeated += u64::from(!new);
        });
    }

    fn lost(&mut self, error: &str, pauses: &mut Pauses) -> Duration {
        self.link = Link::Down;
        self.intake.disconnected();
        let mut first = false;
        self.board.update(|status| {
            first = status.connected || status.last_error.is_none();
            status.connected = false;
            status.last_error = Some(error.to_owned());
        });
        let pause = pauses.next();
        if first {
            tracing::warn!(broker = %self.config.broker, %error, "mqtt bridge disconnected");
        } else {
            tracing::debug!(broker = %self.config.broker, %error, ?pause, "mqtt bridge retries");
        }
        pause
    }

    /// Subscribes to what is configured and unsubscribes what no longer is.
    fn subscribe(&mut self, client: &AsyncClient, session_present: bool) {
        self.subscribed = false;
        for filter in self.subscriptions.connected(session_present) {
            // There is room for all of them; one that does not get through is tried at the next start.
            let _ = client.try_unsubscribe(filter);
        }
        self.subscriptions.store(&self.broker);
        let filters = self
            .config
            .filters
            .iter()
            .map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        // The queue is empty right after a CONNACK, and the filters were checked.
        if let Err(error) = client.try_subscribe_many(filters) {
            self.fail(format!("cannot subscribe: {error}"));
        }
    }

    fn subscribed(&mut self, suback: &SubAck) {
        self.subscribed = true;
        for (filter, code) in self.config.filters.iter().zip(&suback.return_codes) {
            if *code == SubscribeReasonCode::Failure {
                self.subscribed = false;
                self.fail(format!("the broker refused filter {filter:?}"));
            }
        }
    }

    /// Hands over every acknowledgement whose message is durable, as far as the client takes them.
    fn acknowledge(&mut self, client: &AsyncClient) {
        while let Some(receipt) = self.intake.next_ack() {
            if client.try_ack(&receipt.into()).is_err() {
                return;
            }
            self.intake.acked();
            self.board.update(|status| status.acknowledged += 1);
        }
    }

    fn committed(&mut self, (number, result): (Number, Result<(), Poisoned>)) {
        match result {
            Ok(()) => self.intake.durable_through(number),
            Err(poisoned) => self.poison(&poisoned),
        }
    }

    /// Tries to append the next messages. Whatever is refused for now stays where it is.
    async fn append(&mut self) {
        self.retry_at = None;
        let topic = match Self::topic(&self.broker, &self.config.topic).await {
            Ok(topic) => topic,
            Err(error) => return self.refused(&error),
        };
        let chunk = self.intake.chunk(self.chunk);
        let count = chunk.clone().count();
        match self.broker.append(request(&topic, chunk)) {
            Ok(commit) => {
                self.chunk = self.chunk.saturating_mul(2);
                self.admitted(count, commit);
            }
            // A durable gap record says so: the MQTT broker is not to keep them.
            Err(AppendError::Dropped) => {
                let number = self.intake.admitted(count);
                self.appends.push_back((number, Box::pin(std::future::ready(Ok(())))));
            }
            Err(error) if !is_too_large(&error) => self.refused(&error.into()),
            Err(_) if count > 1 => self.chunk = count / 2,
            Err(error) => self.reject(&error).await,
        }
    }

    /// Puts a record of headers in the place of the first message, which no append can hold.
    async fn reject(&mut self, why: &AppendError) {
        let topic = match Self::topic(&self.broker, REJECTED_TOPIC).await {
            Ok(topic) => topic,
            Err(error) => return self.refused(&error),
        };
        let Some(message) = self.intake.chunk(1).next() else { return };
        let reason = why.to_string();
        let request = rejection(&topic, message, &self.config.client_id, &reason);
        match self.broker.append_kept(request) {
            Ok(commit) => {
                tracing::warn!(topic = %message.topic, %reason, "mqtt message rejected");
                self.board.update(|status| status.rejected += 1);
                self.admitted(1, commit);
            }
            Err(error) => self.refused(&error.into()),
        }
    }

    fn admitted(&mut self, count: usize, commit: Commit) {
        let number = self.intake.admitted(count);
        self.appends.push_back((number, Box::pin(commit.durable())));
        self.board.update(|status| {
            if status.blocked {
                status.blocked = false;
                status.last_error = None;
            }
        });
    }

    fn refused(&mut self, error: &TopicError) {
        if let TopicError::Append(
            AppendError::Poisoned(poisoned) | AppendError::Journal(AdmitError::Poisoned(poisoned)),
        ) = error
        {
            return self.poison(poisoned);
        }
        self.retry_at = Some(Instant::now() + RETRY);
        let mut first = false;
        self.board.update(|status| {
            first = !status.blocked;
            status.blocked = true;
            status.last_error = Some(error.to_string());
        });
        if first {
            tracing::warn!(broker = %self.config.broker, %error, "mqtt bridge waits for storage");
        }
    }

    async fn topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, TopicError> {
        match broker.topic(name) {
            Some(topic) => Ok(topic),
            None => broker.ensure_topic(name).await,
        }
    }

    fn poison(&mut self, poisoned: &Poisoned) {
        self.poisoned = true;
        self.fail(poisoned.to_string());
    }

    fn fail(&self, error: String) {
        tracing::error!(broker = %self.config.broker, %error, "mqtt bridge");
        self.board.update(|status| status.last_error = Some(error));
    }
}

/// When the next append may be tried.
struct Gate {
    open: bool,
    at: Option<Instant>,
}

impl Gate {
    fn of(session: &Session) -> Self {
        Self { open: session.appends.len() < MAX_APPENDS, at: session.retry_at }
    }

    async fn opens(&self) {
        match (self.open, self.at) {
            (false, _) => pending().await,
            (true, Some(at)) => sleep_until(at).await,
            (true, None) => {}
        }
    }
}

/// Resolves at the instant; never without one.
async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits for the oldest append; for ever if there is none.
async fn front(appends: &mut VecDeque<(Number, PendingCommit)>) -> (Number, Result<(), Poisoned>) {
    let Some((number, commit)) = appends.front_mut() else { return pending().await };
    let number = *number;
    let result = commit.as_mut().await;
    appends.pop_front();
    (number, result)
}

fn is_too_large(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::BatchTooLarge { .. } | AppendError::Journal(AdmitError::TooLarge { .. })
    )
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl From<Receipt> for Publish {
    fn from(receipt: Receipt) -> Self {
        let mut publish = Self::new(String::new(), receipt.qos, Vec::new());
        publish.pkid = receipt.packet_id;
        publish
    }
}

/// Doubling pauses with jitter, so that many bridges do not come back at the same instant.
struct Pauses {
    next: Duration,
    jitter: RandomState,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: SHORTEST_PAUSE, jitter: RandomState::new() }
    }
}

impl Pauses {
    fn reset(&mut self) {
        self.next = SHORTEST_PAUSE;
    }

    /// Between half and all of the pause that is due.
    fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(LONGEST_PAUSE);
        let spread = (due / 2).as_millis() as u64 + 1;
        due / 2 + Duration::from_millis(self.jitter.hash_one(Instant::now()) % spread)
    }
}
