//! Random clients: whatever they do, the invariants hold.

use proptest::prelude::*;

use super::*;

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
