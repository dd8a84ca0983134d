//! Groups on a stage with its own clock: what members ask, in which order, and what each is told.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

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

#[test]
fn a_new_member_is_given_an_id_first() {
    let mut stage = Stage::new();
    let request = JoinRequest { requires_known_member_id: true, ..new_member("c") };
    let ask = stage.join(request.clone());
    let Some(Err(GroupError::MemberIdRequired { member_id })) = stage.joined(ask) else {
        panic!("an id is required")
    };
    assert!(member_id.starts_with("c-"), "{member_id}");
    let ask = stage.join(JoinRequest { member_id: member_id.clone(), ..request });
    assert_eq!(stage.joined(ask), None);
    stage.pass(DELAY);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((&joined.member_id, joined.generation), (&member_id, 1));
    assert_eq!((&joined.leader, joined.members.len()), (&member_id, 1));
    assert_eq!((joined.protocol.as_str(), joined.protocol_type.as_str()), ("range", "consumer"));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_holds_a_rebalance_no_longer() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![new_member("a")]).remove(0);
    let ask = stage.join(JoinRequest { requires_known_member_id: true, ..new_member("b") });
    assert!(matches!(stage.joined(ask), Some(Err(GroupError::MemberIdRequired { .. }))));
    // The leader rejoins: everyone who is in is here, but one more was promised a place.
    let ask = stage.join(again(&first));
    assert_eq!(stage.joined(ask), None);
    stage.pass(SESSION);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn first_members_gather_as_long_as_more_come() {
    let mut stage = Stage::new();
    let one = stage.join(new_member("a"));
    stage.pass(DELAY - TICK);
    let two = stage.join(new_member("b"));
    stage.pass(DELAY - TICK);
    assert_eq!(stage.joined(one), None);
    stage.pass(TICK * 2);
    let one = stage.joined(one).expect("answered").expect("in");
    let two = stage.joined(two).expect("answered").expect("in");
    assert_eq!((one.generation, two.generation), (1, 1));
    assert_eq!((&one.leader, &two.leader), (&one.member_id, &one.member_id));
    // Only the leader is told who the members are.
    assert_eq!((one.members.len(), two.members.len()), (2, 0));
}

#[test]
fn gathering_ends_with_the_rebalance_timeout() {
    let mut stage = Stage::new();
    let first = stage.join(new_member("0"));
    for _ in 0..40 {
        stage.pass(DELAY / 2);
        stage.join(new_member("n"));
        if stage.answers.contains_key(&first) {
            break;
        }
    }
    let since = stage.joined(first).expect("answered in time").expect("in");
    assert!(since.members.len() >= 30, "{}", since.members.len());
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![new_member("a")]).remove(0);
    let two = stage.join(new_member("b"));
    assert_eq!(stage.joined(two), None);
    assert_eq!(stage.beat(&first), Err(GroupError::RebalanceInProgress));
    let one = stage.join(again(&first));
    // Everyone is here: nobody waits for a timer.
    let one = stage.joined(one).expect("answered").expect("in");
    let two = stage.joined(two).expect("answered").expect("in");
    assert_eq!((one.generation, two.generation, &two.leader), (2, 2, &first.member_id));

    assert_eq!(stage.beat(&first), Err(GroupError::IllegalGeneration));
    let (one, two) = (member(&one), member(&two));
    let waiting = stage.sync(two.clone(), &[]);
    assert_eq!(stage.assignment(waiting), None);
    let assignments = [(one.member_id.as_str(), "p0"), (&two.member_id, "p1"), ("stranger", "p2")];
    let leader = stage.sync(one.clone(), &assignments);
    assert_eq!(stage.assignment(leader), Some(Ok(Bytes::from_static(b"p0"))));
    assert_eq!(stage.assignment(waiting), Some(Ok(Bytes::from_static(b"p1"))));
    assert_eq!((stage.beat(&one), stage.beat(&two)), (Ok(()), Ok(())));
    // A lost answer is asked for again.
    let repeated = stage.sync(two, &[]);
    assert_eq!(stage.assignment(repeated), Some(Ok(Bytes::from_static(b"p1"))));
}

#[test]
fn who_leaves_makes_the_others_join_again_and_the_last_ends_the_group() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    assert_eq!(stage.leave(leaving(&members[0])), Ok(()));
    assert_eq!(stage.leave(leaving(&members[0])), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[0]), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    let ask = stage.join(again(&members[1]));
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((joined.generation, &joined.leader), (2, &joined.member_id));
    assert_eq!(stage.leave(leaving(&members[1])), Ok(()));
    assert_eq!(stage.phase(), None);
    assert_eq!(stage.coordinator.next_deadline(), None);
}

#[test]
fn silence_ends_a_session_and_heartbeats_prolong_it() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    for _ in 0..5 {
        stage.pass(SESSION - TICK);
        let result = stage.beat(&members[1]);
        // The other one is out after its session; this one then has to join again.
        assert!(matches!(result, Ok(()) | Err(GroupError::RebalanceInProgress)), "{result:?}");
    }
    assert_eq!(stage.beat(&members[0]), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    stage.pass(SESSION);
    assert_eq!(stage.phase(), None);
}

#[test]
fn a_rebalance_ends_without_those_who_do_not_join() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    let ask = stage.join(again(&members[0]));
    for _ in 0..(REBALANCE.as_secs() - 1) {
        stage.pass(Duration::from_secs(1));
        assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(stage.joined(ask), None);
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.joined(ask).expect("answered").expect("in").members.len(), 1);
    assert_eq!(stage.beat(&members[1]), Err(GroupError::UnknownMember));
}

#[test]
fn a_leader_that_brings_no_assignment_is_out() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    // The leader is alive, yet silent on the assignment.
    for _ in 0..REBALANCE.as_secs() {
        stage.pass(Duration::from_secs(1));
        let _ = stage.beat(&member(&one));
    }
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(stage.beat(&member(&one)), Err(GroupError::UnknownMember));
    let ask = stage.join(again(&member(&two)));
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((&joined.leader, joined.members.len()), (&two.member_id, 1));
}

#[test]
fn a_leader_whose_session_ends_before_its_assignment_is_out() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [_, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    stage.pass(SESSION);
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::RebalanceInProgress)));
    // Its own session starts again with the answer.
    stage.pass(SESSION - TICK);
    assert_eq!(stage.beat(&member(&two)), Err(GroupError::RebalanceInProgress));
}

#[test]
fn joining_again_without_news_changes_nothing_except_for_the_leader() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    // The answers were lost.
    for joined in [&one, &two] {
        let ask = stage.join(again(&member(joined)));
        assert_eq!(stage.joined(ask).as_ref(), Some(&Ok(joined.clone())));
    }
    let _ = stage.sync(member(&one), &[]);
    let _ = stage.sync(member(&two), &[]);
    stage.answers.clear();
    let ask = stage.join(again(&member(&two)));
    assert_eq!(stage.joined(ask), Some(Ok(two.clone())));
    assert_eq!(stage.phase(), Some(GroupPhase::Stable));
    let news = JoinRequest {
        protocols: vec![("range".to_owned(), Bytes::from_static(b"other topics"))],
        ..again(&member(&two))
    };
    for request in [again(&member(&one)), news] {
        let mut stage = Stage::new();
        let members = stage.stable(vec![new_member("a"), new_member("b")]);
        let id = if request.protocols[0].1 == "topics" { &members[0] } else { &members[1] };
        let ask = stage.join(JoinRequest { member_id: id.member_id.clone(), ..request });
        assert_eq!(
            (stage.joined(ask), stage.phase()),
            (None, Some(GroupPhase::PreparingRebalance))
        );
    }
}

#[test]
fn a_repeated_join_answers_the_first_one() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    let first = stage.join(again(&members[0]));
    let second = stage.join(again(&members[0]));
    assert_eq!(stage.joined(first), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(stage.joined(second), None);
}

#[test]
fn the_assignor_that_all_know_and_most_prefer_is_elected() {
    let cases: &[(&[&[&str]], &str)] = &[
        (&[&["range"]], "range"),
        (&[&["range", "sticky"], &["sticky"]], "sticky"),
        (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky"),
        // A draw: as the leader prefers.
        (&[&["range", "sticky"], &["sticky", "range"]], "range"),
        (&[&["sticky", "range"], &["range", "sticky"]], "sticky"),
        // Preferred by most, but not known to all.
        (&[&["new", "range"], &["new", "range"], &["range"]], "range"),
    ];
    for (members, elected) in cases {
        let mut stage = Stage::new();
        let asks: Vec<Ask> = members
            .iter()
            .map(|names| stage.join(with_protocols(new_member("m"), names)))
            .collect();
        stage.pass(DELAY * 2);
        for ask in asks {
            let joined = stage.joined(ask).expect("answered").expect("in");
            assert_eq!(joined.protocol, *elected, "{members:?}");
        }
    }
}

#[test]
fn strangers_to_the_groups_protocol_are_refused() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![with_protocols(new_member("a"), &["range"])]).remove(0);
    let cases = [
        with_protocols(new_member("b"), &["sticky"]),
        with_protocols(new_member("b"), &[]),
        JoinRequest { protocol_type: "connect".to_owned(), ..new_member("b") },
        with_protocols(again(&first), &["sticky"]),
    ];
    for request in cases {
        let ask = stage.join(request.clone());
        assert_eq!(stage.joined(ask), Some(Err(GroupError::InconsistentProtocol)), "{request:?}");
    }
    // A group without members takes anything that is something.
    for request in [
        with_protocols(new_member("b"), &[]),
        JoinRequest { protocol_type: String::new(), ..new_member("b") },
    ] {
        let mut stage = Stage::new();
        let ask = stage.join(request);
        assert_eq!(stage.joined(ask), Some(Err(GroupError::InconsistentProtocol)));
        assert_eq!(stage.phase(), None, "nothing is kept of it");
    }
    for (protocol_type, protocol) in [(Some("connect"), None), (None, Some("sticky"))] {
        let request = SyncRequest {
            member: first.clone(),
            protocol_type: protocol_type.map(str::to_owned),
            protocol: protocol.map(str::to_owned),
            assignments: Vec::new(),
        };
        let ask = stage.turn(|it, now, ask, out| it.sync(now, ask, request, out));
        assert_eq!(stage.assignment(ask), Some(Err(GroupError::InconsistentProtocol)));
    }
}

/// Kafka's rules, phase by phase: who may send a heartbeat, sync, commit.
#[test]
fn errors_in_every_phase() {
    use GroupError::{IllegalGeneration, RebalanceInProgress, UnknownMember};
    type Outcome = Result<(), GroupError>;
    let nobody = MemberRef { group: GROUP.to_owned(), generation: -1, ..MemberRef::default() };
    // (phase, member: heartbeat, sync, commit, other generation's: heartbeat, commit, and nobody's commit)
    let cases: [(&str, [Outcome; 6]); 4] = [
        (
            "none",
            [
                Err(UnknownMember),
                Err(UnknownMember),
                Err(IllegalGeneration),
                Err(UnknownMember),
                Err(IllegalGeneration),
                Ok(()),
            ],
        ),
        (
            "preparing",
            [
                Err(RebalanceInProgress),
                Err(RebalanceInProgress),
                Ok(()),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
        (
            "completing",
            [
                Ok(()),
                Ok(()),
                Err(RebalanceInProgress),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
        (
            "stable",
            [
                Ok(()),
                Ok(()),
                Ok(()),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
    ];
    for (phase, expected) in cases {
        let mut stage = Stage::new();
        let mut who = stage.stable(vec![new_member("a")]).remove(0);
        match phase {
            "none" => assert_eq!(stage.leave(leaving(&who)), Ok(())),
            "preparing" => {
                let _ = stage.join(new_member("b"));
            }
            "completing" => {
                let ask = stage.join(again(&who));
                who = member(&stage.joined(ask).expect("alone").expect("in"));
            }
            _ => {}
        }
        let other = MemberRef { generation: who.generation + 1, ..who.clone() };
        let stranger = MemberRef { member_id: "x".to_owned(), ..who.clone() };
        let now = stage.now;
        let heartbeat = stage.beat(&who);
        let commit = stage.coordinator.admit_commit(now, &who);
        let ask = stage.sync(who.clone(), &[]);
        let sync = stage.synced(ask).expect("alone, or refused").map(|_| ());
        let actual = [
            heartbeat,
            sync,
            commit,
            stage.beat(&other),
            stage.coordinator.admit_commit(now, &other),
            stage.coordinator.admit_commit(now, &nobody),
        ];
        assert_eq!(actual, expected, "{phase}");
        assert_eq!(stage.beat(&stranger), Err(UnknownMember), "{phase}");
        let ask = stage.sync(stranger, &[]);
        assert_eq!(stage.assignment(ask), Some(Err(UnknownMember)), "{phase}");
    }
}

#[test]
fn a_member_that_is_not_known_must_start_over() {
    let mut stage = Stage::new();
    let request = JoinRequest { member_id: "x".to_owned(), ..new_member("a") };
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
    stage.stable(vec![new_member("a")]);
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
    let ask = stage.join(JoinRequest { instance_id: Some("i".to_owned()), ..request });
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    for is_leader in [true, false] {
        for can_skip in [true, false] {
            let mut stage = Stage::new();
            let first = if is_leader { static_member("i") } else { new_member("a") };
            let second = if is_leader { new_member("a") } else { static_member("i") };
            let members = stage.stable(vec![first, second]);
            let old = &members[usize::from(!is_leader)];
            let request = JoinRequest { can_skip_assignment: can_skip, ..static_member("i") };
            let ask = stage.join(request);
            let joined = stage.joined(ask).expect("at once").expect("in");
            assert_ne!(joined.member_id, old.member_id);
            assert_eq!(joined.generation, old.generation);
            assert_eq!(stage.phase(), Some(GroupPhase::Stable));
            assert_eq!(joined.skip_assignment, is_leader && can_skip);
            assert_eq!(joined.members.is_empty(), !(is_leader && can_skip));
            let leader =
                if is_leader && can_skip { &joined.member_id } else { &members[0].member_id };
            assert_eq!(&joined.leader, leader);

            // The assignment is the old one; the old id is fenced wherever it shows.
            let instance_id = Some("i".to_owned());
            let new = MemberRef { instance_id: instance_id.clone(), ..member(&joined) };
            let ask = stage.sync(new.clone(), &[]);
            let kept = if is_leader { "all" } else { "" };
            assert_eq!(stage.assignment(ask), Some(Ok(Bytes::from_static(kept.as_bytes()))));
            let old = MemberRef { instance_id, ..old.clone() };
            let fenced = GroupError::FencedInstance;
            assert_eq!(stage.beat(&old), Err(fenced.clone()));
            assert_eq!(stage.leave(leaving(&old)), Err(fenced.clone()));
            assert_eq!(stage.coordinator.admit_commit(stage.now, &old), Err(fenced.clone()));
            let ask = stage.sync(old.clone(), &[]);
            assert_eq!(stage.assignment(ask), Some(Err(fenced.clone())));
            let ask = stage.join(again(&old));
            assert_eq!(stage.joined(ask), Some(Err(fenced)));
            assert_eq!(stage.beat(&new), Ok(()));
        }
    }
}

#[test]
fn a_static_member_that_waits_is_fenced_by_its_successor() {
    let mut stage = Stage::new();
    let first = stage.join(static_member("i"));
    let second = stage.join(static_member("i"));
    assert_eq!(stage.joined(first), Some(Err(GroupError::FencedInstance)));
    stage.pass(DELAY);
    let joined = stage.joined(second).expect("answered").expect("in");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].instance_id.as_deref(), Some("i"));

    // While the assignment is awaited: the leader may have been told of the old id.
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(static_member("i"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    let ask = stage.join(static_member("i"));
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::FencedInstance)));
    assert_eq!(stage.joined(ask), None);
    assert_eq!(stage.beat(&member(&one)), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_static_member_may_miss_a_rebalance_until_its_session_ends() {
    let mut stage = Stage::new();
    let request = JoinRequest { session_timeout: REBALANCE * 3, ..static_member("i") };
    let members = stage.stable(vec![new_member("a"), request]);
    let ask = stage.join(again(&members[0]));
    stage.pass(REBALANCE);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!(joined.members.len(), 2, "its place is kept");
}

#[test]
fn an_administrator_removes_a_static_member_by_name() {
    let mut stage = Stage::new();
    stage.stable(vec![static_member("i")]);
    let by_name = |name: &str| Leaving { member_id: String::new(), instance_id: Some(name.into()) };
    assert_eq!(stage.leave(by_name("j")), Err(GroupError::UnknownMember));
    let no_name = Leaving { member_id: String::new(), instance_id: None };
    assert_eq!(stage.leave(no_name), Err(GroupError::UnknownMember));
    assert_eq!(stage.leave(by_name("i")), Ok(()));
    assert_eq!(stage.phase(), None);
}

#[test]
fn limits_are_refused_by_name() {
    let options = GroupOptions {
        max_groups: 2,
        max_members: 2,
        max_member_bytes: 1000,
        max_total_bytes: 4000,
        ..GroupOptions::default()
    };
    let mut stage = Stage::with(options);
    let mut refused = |request: JoinRequest| {
        let ask = stage.join(request);
        stage.joined(ask).and_then(Result::err)
    };
    let in_group =
        |group: &str, client: &str| JoinRequest { group: group.to_owned(), ..new_member(client) };
    let metadata = |bytes: usize| vec![("range".to_owned(), Bytes::from(vec![0; bytes]))];

    assert_eq!(refused(in_group("", "a")), Some(GroupError::InvalidGroupId));
    assert_eq!(refused(in_group(&"g".repeat(1025), "a")), Some(GroupError::InvalidGroupId));
    for session_timeout in [Duration::from_millis(5_999), Duration::from_millis(1_800_001)] {
        let request = JoinRequest { session_timeout, ..new_member("a") };
        assert_eq!(refused(request), Some(GroupError::InvalidSessionTimeout));
    }
    let request = JoinRequest { protocols: metadata(1000), ..new_member("a") };
    assert!(matches!(refused(request), Some(GroupError::TooLarge { limit: 1000, .. })));
    let request = with_protocols(new_member("a"), &["p"; 33]);
    let expected = GroupError::TooManyProtocols { count: 33, limit: 32 };
    assert_eq!(refused(request), Some(expected));

    assert_eq!(refused(new_member("a")), None);
    assert_eq!(refused(new_member("b")), None);
    assert_eq!(refused(new_member("c")), Some(GroupError::GroupFull { limit: 2 }));
    assert_eq!(refused(in_group("h", "a")), None);
    let expected = GroupError::CoordinatorFull { what: "groups.max_groups", limit: 2 };
    assert_eq!(refused(in_group("i", "a")), Some(expected));
    let request = JoinRequest { protocols: metadata(800), ..in_group("h", "b") };
    assert_eq!(refused(request), None);
    let request = JoinRequest { protocols: metadata(900), ..in_group("h", "c") };
    let expected = GroupError::CoordinatorFull { what: "groups.max_total_bytes", limit: 4000 };
    assert_eq!(refused(request), Some(expected));
}

#[test]
fn ids_that_were_given_out_count_as_members() {
    let options = GroupOptions { max_members: 3, ..GroupOptions::default() };
    let mut stage = Stage::with(options);
    let request = JoinRequest { requires_known_member_id: true, ..new_member("a") };
    for _ in 0..3 {
        let ask = stage.join(request.clone());
        assert!(matches!(stage.joined(ask), Some(Err(GroupError::MemberIdRequired { .. }))));
    }
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::GroupFull { limit: 3 })));
    stage.pass(SESSION);
    assert_eq!(stage.phase(), None);
}

/// What a random client does.
#[derive(Clone, Debug)]
enum Move {
    JoinNew { id_first: bool, instance: Option<u8> },
    JoinAgain { member: prop::sample::Index, news: bool },
    Sync { member: prop::sample::Index },
    Beat { member: prop::sample::Index },
    Leave { member: prop::sample::Index },
    Pass { ms: u64 },
}

fn any_move() -> impl Strategy<Value = Move> {
    let member = any::<prop::sample::Index>;
    prop_oneof![
        2 => (any::<bool>(), prop::option::of(0..3u8))
            .prop_map(|(id_first, instance)| Move::JoinNew { id_first, instance }),
        4 => (member(), any::<bool>())
            .prop_map(|(member, news)| Move::JoinAgain { member, news }),
        4 => member().prop_map(|member| Move::Sync { member }),
        3 => member().prop_map(|member| Move::Beat { member }),
        1 => member().prop_map(|member| Move::Leave { member }),
        3 => (0..12_000u64).prop_map(|ms| Move::Pass { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever clients do: each request is answered once, a generation has one leader and one assignor,
    /// and when all fall silent nothing is left.
    #[test]
    fn any_moves_end_in_silence(moves in prop::collection::vec(any_move(), 1..80)) {
        let mut stage = Stage::new();
        let mut known: Vec<MemberRef> = Vec::new();
        let mut generations: HashMap<i32, (String, String)> = HashMap::new();
        let mut asked = Vec::new();
        for one in moves {
            let pick = |index: prop::sample::Index, known: &[MemberRef]| {
                (!known.is_empty()).then(|| index.get(known).clone())
            };
            match one {
                Move::JoinNew { id_first, instance } => {
                    let instance_id = instance.map(|it| format!("i{it}"));
                    let request = JoinRequest {
                        instance_id,
                        requires_known_member_id: id_first,
                        ..new_member("n")
                    };
                    asked.push(stage.join(request));
                }
                Move::JoinAgain { member, news } => if let Some(who) = pick(member, &known) {
                    let topics = if news { &b"news"[..] } else { b"topics" };
                    let protocols = vec![("range".to_owned(), Bytes::from_static(topics))];
                    asked.push(stage.join(JoinRequest { protocols, ..again(&who) }));
                },
                Move::Sync { member } => if let Some(who) = pick(member, &known) {
                    asked.push(stage.sync(who, &[]));
                },
                Move::Beat { member } => if let Some(who) = pick(member, &known) {
                    let _ = stage.beat(&who);
                },
                Move::Leave { member } => if let Some(who) = pick(member, &known) {
                    let _ = stage.leave(leaving(&who));
                },
                Move::Pass { ms } => stage.pass(Duration::from_millis(ms)),
            }
            for answer in stage.answers.values() {
                let Answer::Join(_, result) = answer else { continue };
                match result {
                    Ok(joined) => {
                        if !known.contains(&member(joined)) {
                            known.push(member(joined));
                        }
                        let said = (joined.leader.clone(), joined.protocol.clone());
                        // A static leader that comes back has a new id in its generation.
                        let first = generations.entry(joined.generation).or_insert(said.clone());
                        prop_assert_eq!(&first.1, &said.1);
                    }
                    Err(GroupError::MemberIdRequired { member_id }) => known.push(MemberRef {
                        group: GROUP.to_owned(),
                        member_id: member_id.clone(),
                        instance_id: None,
                        generation: 0,
                    }),
                    Err(_) => {}
                }
            }
            // Generations count from 1 again in a group that was forgotten.
            if stage.phase().is_none() {
                generations.clear();
            }
        }
        stage.pass(Duration::from_secs(3600));
        prop_assert_eq!(stage.phase(), None);
        prop_assert_eq!(stage.coordinator.next_deadline(), None);
        for ask in asked {
            prop_assert!(stage.answers.contains_key(&ask), "{:?} has no answer", ask);
        }
    }
}
