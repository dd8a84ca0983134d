//! Groups on a stage with its own clock: what members ask, in which order, and what each is told.

mod limits;
mod random;
mod rebalances;
mod statics;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Answer, Ask, Coordinator, GroupError, GroupOptions, GroupPhase, JoinRequest, Joined, Leaving,
    MemberRef, SyncRequest, Synced,
};

const GROUP: &str = "g";
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(1);

struct Stage {
    coordinator: Coordinator,
    now: Instant,
    asks: u64,
    answers: HashMap<Ask, Answer>,
}

impl Stage {
    fn new() -> Self {
        Self::with(GroupOptions { initial_rebalance_delay: DELAY, ..GroupOptions::default() })
    }

    fn with(options: GroupOptions) -> Self {
        let coordinator = Coordinator::new(options);
        Self { coordinator, now: Instant::now(), asks: 0, answers: HashMap::new() }
    }

    fn turn(&mut self, step: impl FnOnce(&mut Coordinator, Instant, Ask, &mut Vec<Answer>)) -> Ask {
        self.asks += 1;
        let ask = Ask(self.asks);
        let mut out = Vec::new();
        step(&mut self.coordinator, self.now, ask, &mut out);
        self.note(out);
        ask
    }

    fn note(&mut self, out: Vec<Answer>) {
        for answer in out {
            let (Answer::Join(ask, _) | Answer::Sync(ask, _)) = &answer;
            let earlier = self.answers.insert(*ask, answer.clone());
            assert_eq!(earlier, None, "one answer for each request");
        }
    }

    /// Lets time pass, from deadline to deadline.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|it| *it <= end) {
            self.now = self.now.max(deadline);
            let mut out = Vec::new();
            self.coordinator.advance(self.now, &mut out);
            self.note(out);
        }
        self.now = end;
    }

    fn join(&mut self, request: JoinRequest) -> Ask {
        let fresh = (self.asks + 1).to_string();
        self.turn(|it, now, ask, out| it.join(now, ask, request, &fresh, out))
    }

    fn joined(&mut self, ask: Ask) -> Option<Result<Joined, GroupError>> {
        self.answers.remove(&ask).map(|answer| match answer {
            Answer::Join(_, result) => result,
            Answer::Sync(..) => panic!("asked to join"),
        })
    }

    fn sync(&mut self, who: MemberRef, assignments: &[(&str, &'static str)]) -> Ask {
        let assignment = |(id, text): &(&str, &'static str)| {
            ((*id).to_owned(), Bytes::from_static(text.as_bytes()))
        };
        let request = SyncRequest {
            member: who,
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(assignment).collect(),
        };
        self.turn(|it, now, ask, out| it.sync(now, ask, request, out))
    }

    fn synced(&mut self, ask: Ask) -> Option<Result<Synced, GroupError>> {
        self.answers.remove(&ask).map(|answer| match answer {
            Answer::Sync(_, result) => result,
            Answer::Join(..) => panic!("asked for an assignment"),
        })
    }

    fn assignment(&mut self, ask: Ask) -> Option<Result<Bytes, GroupError>> {
        self.synced(ask).map(|result| result.map(|synced| synced.assignment))
    }

    fn beat(&mut self, who: &MemberRef) -> Result<(), GroupError> {
        self.coordinator.heartbeat(self.now, who)
    }

    fn leave(&mut self, leaving: Leaving) -> Result<(), GroupError> {
        let mut results = Err(GroupError::Stopped);
        self.turn(|it, now, _, out| results = it.leave(now, GROUP, &[leaving], out));
        results.expect("the group's own answer").pop().expect("one result")
    }

    fn phase(&self) -> Option<GroupPhase> {
        self.coordinator.describe(GROUP).map(|it| it.phase)
    }

    /// Members that join an empty group together, and have their assignment. The first is the leader.
    fn stable(&mut self, requests: Vec<JoinRequest>) -> Vec<MemberRef> {
        let asks: Vec<Ask> = requests.into_iter().map(|it| self.join(it)).collect();
        // Once more, because the second came after the first.
        self.pass(DELAY * 2);
        let mut joined: Vec<Joined> =
            asks.into_iter().map(|ask| self.joined(ask).expect("answered").expect("in")).collect();
        joined.sort_by_key(|it| it.leader != it.member_id);
        let members: Vec<MemberRef> = joined.iter().map(member).collect();
        for who in members.iter().rev() {
            let ask = self.sync(who.clone(), &[(&members[0].member_id, "all")]);
            if *who == members[0] {
                assert_eq!(self.assignment(ask), Some(Ok(Bytes::from_static(b"all"))));
            }
        }
        self.answers.clear();
        assert_eq!(self.phase(), Some(GroupPhase::Stable));
        members
    }
}

fn new_member(name: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.to_owned(),
        member_id: String::new(),
        instance_id: None,
        client_id: name.to_owned(),
        client_host: "127.0.0.1".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
        requires_known_member_id: false,
        can_skip_assignment: false,
    }
}

fn static_member(instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.to_owned()), ..new_member("s") }
}

fn again(who: &MemberRef) -> JoinRequest {
    let member_id = who.member_id.clone();
    JoinRequest { member_id, instance_id: who.instance_id.clone(), ..new_member("again") }
}

fn with_protocols(request: JoinRequest, names: &[&str]) -> JoinRequest {
    let protocols = names.iter().map(|it| ((*it).to_owned(), Bytes::from_static(b"topics")));
    JoinRequest { protocols: protocols.collect(), ..request }
}

fn member(joined: &Joined) -> MemberRef {
    MemberRef {
        group: GROUP.to_owned(),
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
    }
}

fn leaving(who: &MemberRef) -> Leaving {
    Leaving { member_id: who.member_id.clone(), instance_id: who.instance_id.clone() }
}
