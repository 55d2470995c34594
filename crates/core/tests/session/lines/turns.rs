//! Connections that make place for new ones: of age, or as the venue asks.

use super::*;

fn live_lines(rig: &Rig) -> Vec<bool> {
    rig.session.connections().iter().map(|line| line.state == ConnectionState::Live).collect()
}

#[test]
fn a_connection_of_age_is_replaced_before_it_ends() {
    for (way, wanted) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 2)]) {
        let (mut plan, venue) = scene(way, Acknowledged::Symbol, 11);
        plan = doubled(plan, wanted);
        plan.lines.rotate_every = 10 * SECOND;
        let mut rig = Rig::new(plan, venue, 11);
        rig.run(SECOND);
        assert_eq!(live_lines(&rig), [true, wanted == 2]);
        for step in 0..1500 {
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes; 2]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(SECOND);
        assert_seamless(&rig, 1000..2500);
        assert!(rig.connects.len() >= 3 * usize::from(wanted), "{way:?}: {:?}", rig.connects);
        let rotated = rig.closes.iter().filter(|(_, reason)| *reason == Reason::Rotation).count();
        assert!(rotated >= 2 * usize::from(wanted), "{way:?}: {:?}", rig.closes);
        assert_eq!(live_lines(&rig).iter().filter(|live| **live).count(), usize::from(wanted));
    }
}

#[test]
fn a_venue_that_announces_its_end_is_left_in_time() {
    for (way, wanted) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 2)]) {
        let mut rig = start(way, Acknowledged::Symbol, 13, wanted);
        for step in 0..600 {
            if step == 100 {
                // What is connected now is cut after ten seconds, whether it was left or not.
                (0..wanted).for_each(|line| rig.frame(line, "bye soon"));
            }
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes; 2]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(SECOND);
        assert_seamless(&rig, 1000..1600);
        let left: Vec<_> = rig.closes.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(left, vec![Reason::Maintenance; usize::from(wanted)], "{way:?}");
    }
}

#[test]
fn a_connection_is_not_left_for_a_line_that_fell_silent() {
    for way in WAYS {
        let mut rig = start(way, Acknowledged::Symbol, 19, 2);
        for step in 0..600 {
            if step == 150 {
                rig.frame(0, "bye soon");
            }
            // Nobody has noticed yet that nothing comes on the other one.
            let fate = if (100..300).contains(&step) { Fate::Lost } else { Fate::Comes };
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes, fate]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(SECOND);
        assert_seamless(&rig, 1000..1600);
        assert_eq!(rig.closes.iter().map(|close| close.1).collect::<Vec<_>>(), [Reason::Maintenance], "{way:?}");
    }
}

#[test]
fn a_connection_that_ends_while_it_is_replaced_leaves_one() {
    for way in WAYS {
        let mut rig = start(way, Acknowledged::Symbol, 17, 1);
        for step in 0..600 {
            if step == 100 {
                rig.frame(0, "bye now");
            }
            if step == 101 {
                rig.cut(0, Reason::PeerClosed, None);
            }
            both(&mut rig, step, [5 * MILLISECOND, 12 * MILLISECOND], [Fate::Comes; 2]);
            rig.run(20 * MILLISECOND);
        }
        rig.run(10 * SECOND);
        assert_true(&rig);
        assert_eq!(live_lines(&rig).iter().filter(|live| **live).count(), 1, "{way:?}");
    }
}
