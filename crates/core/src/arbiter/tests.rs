use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const BOUNDS: Bounds = Bounds { within: 1000, messages: 64 };

fn pair() -> Arbiter<(u64, u64)> {
    let mut arbiter = Arbiter::new(2, BOUNDS);
    arbiter.set_up(0, true);
    arbiter.set_up(1, true);
    arbiter
}

/// What a stream gave: spans and holes, in their order.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    Span(u64, u64),
    Hole(u64, u64),
}

fn drain(arbiter: &mut Arbiter<(u64, u64)>, now: Nanos, given: &mut Vec<Given>) {
    while let Some(release) = arbiter.release(now) {
        given.push(match release {
            Release::Next((first, last)) => Given::Span(first, last),
            Release::Missing { first, last } => Given::Hole(first, last),
        });
    }
}

fn offer(arbiter: &mut Arbiter<(u64, u64)>, now: Nanos, line: usize, span: (u64, u64), given: &mut Vec<Given>) {
    let place = arbiter.offer(now, line, Span::new(span.0, span.1).unwrap(), || span);
    if place == Place::Next {
        given.push(Given::Span(span.0, span.1));
    }
    drain(arbiter, now, given);
}

fn scores<T>(arbiter: &Arbiter<T>) -> Vec<Score> {
    arbiter.scores().collect()
}

#[test]
fn one_lines_hole_is_filled_from_the_other_and_the_lines_are_scored() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    for (now, line, number) in [(0, 0, 1), (3, 1, 1), (10, 0, 4), (13, 1, 2), (14, 1, 3), (15, 1, 4), (20, 0, 5)] {
        offer(&mut arbiter, now, line, (number, number), &mut given);
    }
    assert_eq!(given, (1..=5).map(|number| Given::Span(number, number)).collect::<Vec<_>>());
    let [a, b] = scores(&arbiter)[..] else { panic!() };
    assert_eq!(a, Score { firsts: 3, holes: 1, ..Score::default() });
    assert_eq!(b, Score { firsts: 2, copies: 2, fills: 2, late_ns: 3 + 5, ..Score::default() });
}

#[test]
fn a_hole_that_all_lines_are_past_is_told_at_once() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 0, (1, 1), &mut given);
    offer(&mut arbiter, 1, 0, (3, 3), &mut given);
    assert_eq!(given.len(), 1, "the other line may bring it");
    offer(&mut arbiter, 2, 1, (4, 4), &mut given);
    assert_eq!(given[1..], [Given::Hole(2, 2), Given::Span(3, 3), Given::Span(4, 4)]);
}

#[test]
fn a_hole_is_given_up_when_the_other_line_goes_down_or_is_silent_too_long() {
    for silent in [false, true] {
        let (mut arbiter, mut given) = (pair(), Vec::new());
        offer(&mut arbiter, 0, 0, (1, 1), &mut given);
        offer(&mut arbiter, 5, 0, (3, 3), &mut given);
        assert_eq!(arbiter.deadline(), Some(1005));
        if silent {
            drain(&mut arbiter, 1004, &mut given);
            assert_eq!(given.len(), 1);
            drain(&mut arbiter, 1005, &mut given);
        } else {
            arbiter.set_up(1, false);
            drain(&mut arbiter, 6, &mut given);
        }
        assert_eq!(given[1..], [Given::Hole(2, 2), Given::Span(3, 3)]);
        assert_eq!(arbiter.deadline(), None);
    }
}

#[test]
fn numbers_that_only_one_line_knows_are_no_hole() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 0, (1, 1), &mut given);
    offer(&mut arbiter, 1, 1, (900, 900), &mut given);
    offer(&mut arbiter, 2, 0, (2, 2), &mut given);
    drain(&mut arbiter, 5000, &mut given);
    offer(&mut arbiter, 5001, 0, (3, 3), &mut given);
    assert_eq!(given, [Given::Span(1, 1), Given::Span(2, 2), Given::Span(3, 3)]);
    assert_eq!(scores(&arbiter)[1].doubted, 1);
}

#[test]
fn a_stream_whose_numbers_nobody_bears_out_begins_anew() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 0, (1, 1), &mut given);
    arbiter.set_up(1, false);
    // One line alone cannot be doubted, so what it says counts until it says otherwise for long.
    for (now, number) in [(1, 900), (2, 2), (3, 3), (1500, 4), (1501, 5)] {
        offer(&mut arbiter, now, 0, (number, number), &mut given);
    }
    let span = |number| Given::Span(number, number);
    assert_eq!(given, [span(1), Given::Hole(2, 899), span(900), span(4), span(5)]);
}

#[test]
fn a_jump_ahead_after_a_long_silence_is_a_hole_and_no_new_beginning() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 1, (18, 21), &mut given);
    (0..2).for_each(|line| arbiter.set_up(line, false));
    offer(&mut arbiter, 123, 0, (0, 0), &mut given);
    offer(&mut arbiter, 5000, 0, (23, 23), &mut given);
    assert_eq!(given, [Given::Span(18, 21), Given::Hole(22, 22), Given::Span(23, 23)]);
}

#[test]
fn what_waits_is_bounded() {
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 0, (1, 1), &mut given);
    for number in (3..).take(BOUNDS.messages + 1) {
        assert_eq!(given.len(), 1);
        offer(&mut arbiter, 1, 0, (number, number), &mut given);
        assert!(arbiter.held.len() <= BOUNDS.messages);
    }
    assert_eq!(given[1], Given::Hole(2, 2));
    assert_eq!(given.len(), BOUNDS.messages + 3);
}

#[test]
fn impossible_spans_are_no_spans_and_lines_that_do_not_exist_harm_nobody() {
    assert_eq!(Span::new(2, 1), None);
    assert_eq!(Span::new(0, u64::MAX), None);
    let (mut arbiter, mut given) = (pair(), Vec::new());
    offer(&mut arbiter, 0, 9, (1, u64::MAX - 1), &mut given);
    offer(&mut arbiter, 0, 9, (1, 1), &mut given);
    assert_eq!(given.len(), 1);
    arbiter.restart();
    offer(&mut arbiter, 0, 0, (1, 1), &mut given);
    assert_eq!(given.len(), 2);
}

#[test]
fn a_stream_without_numbers_counts_each_thing_as_often_as_it_was_said() {
    let mut seen = Seen::new(2);
    let said = [(0, 7), (1, 7), (0, 7), (0, 8), (1, 7), (1, 8), (1, 7), (9, 7)];
    let news = said.map(|(line, hash)| seen.is_news(line, hash));
    assert_eq!(news, [true, false, true, true, false, false, true, false]);
    for hash in 0..5000 {
        seen.is_news(0, hash);
    }
    assert_eq!(seen.recent.len(), SEEN_MOST);
}

/// The plain twin: all that any line brought, sorted, each once.
fn union(lines: &[Vec<u64>]) -> BTreeSet<u64> {
    lines.iter().flatten().copied().collect()
}

/// What a line makes of the numbers 1..=count: each is lost, brought, or brought twice.
fn line(count: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..10u8, count).prop_map(|fates| {
        let numbers = (1..).zip(fates);
        numbers.flat_map(|(number, fate)| vec![number; [0, 0, 2].get(fate as usize).copied().unwrap_or(1)]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_merged_stream_is_the_sorted_union(
        lines in (1..4usize).prop_flat_map(|count| prop::collection::vec(line(40), count)),
        turns in prop::collection::vec(any::<u8>(), 300),
    ) {
        let mut arbiter = Arbiter::new(lines.len(), Bounds { within: 1_000_000, messages: 64 });
        (0..lines.len()).for_each(|line| arbiter.set_up(line, true));
        // The first number has to be settled, since what comes before the first message is nobody's.
        let mut given = Vec::new();
        (0..lines.len()).for_each(|line| offer(&mut arbiter, 0, line, (0, 0), &mut given));
        let mut left: Vec<_> = lines.iter().map(|line| line.iter().copied()).collect();
        let mut now = 0;
        for turn in turns.into_iter().chain((0..lines.len() as u8).cycle().take(400)) {
            let line = turn as usize % lines.len();
            now += 1;
            match left[line].next() {
                Some(number) => offer(&mut arbiter, now, line, (number, number), &mut given),
                None => {
                    arbiter.set_up(line, false);
                    drain(&mut arbiter, now, &mut given);
                }
            }
        }
        let expected = union(&lines);
        let spans = given.iter().filter_map(|given| match given { Given::Span(first, _) => Some(*first), _ => None });
        prop_assert_eq!(spans.skip(1).collect::<Vec<_>>(), expected.iter().copied().collect::<Vec<_>>());
        let holes = given.iter().filter_map(|given| match given { Given::Hole(a, b) => Some(*a..=*b), _ => None });
        let told: BTreeSet<u64> = holes.flatten().collect();
        let last = expected.last().copied().unwrap_or(0);
        prop_assert_eq!(told, (1..=last).filter(|number| !expected.contains(number)).collect::<BTreeSet<_>>());
    }

    #[test]
    fn differently_cut_messages_lose_no_number_and_hostile_ones_are_bounded(
        messages in prop::collection::vec((0..3usize, 0..50u64, 0..9u64, 0..400u64, any::<bool>()), 0..400),
    ) {
        let mut arbiter = Arbiter::new(2, Bounds { within: 500, messages: 16 });
        let (mut given, mut now, mut end, mut given_at) = (Vec::new(), 0, None, 0);
        for (line, first, more, after, up) in messages {
            now += after;
            if after % 7 == 0 {
                arbiter.set_up(line, up);
            }
            let before = given.len();
            offer(&mut arbiter, now, line, (first, first + more), &mut given);
            prop_assert!(arbiter.held.len() <= 16);
            for given in &given[before..] {
                let (Given::Span(first, last) | Given::Hole(first, last)) = *given;
                let expected = end.map_or(first, |end: u64| end + 1);
                // After a long time without anything new the stream may begin anew.
                let anew = now > given_at + 500 && last < expected;
                prop_assert!(anew || first <= expected && last >= expected, "{first}..={last} after {end:?}");
                (end, given_at) = (Some(last), now);
            }
        }
    }
}
