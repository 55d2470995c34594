use super::*;
use crate::record::{Action, BookState, Level, Side, Status, Subject, F_LAST, UNDEF_I64, UNDEF_U64};
use bytemuck::Zeroable;

fn level(action: Action, side: Side, price: (i64, u8), size: (i64, u8), flags: u8) -> Level {
    Level {
        action: action as u8,
        side: side as u8,
        price: price.0,
        price_scale: price.1,
        size: size.0,
        size_scale: size.1,
        flags,
        state: BookState::Live as u8,
        instrument_id: 7,
        ts_event: 100,
        ts_recv: 200,
        ..Level::zeroed()
    }
}

fn feed(views: &mut Views, index: u64, line: &Level) -> Vec<u8> {
    let mut out = Vec::new();
    views.feed(index, line, &mut out).expect("a row");
    out
}

fn head(row: &[u8]) -> RowHead {
    bytemuck::pod_read_unaligned(&row[..ROW_HEAD_BYTES])
}

fn rank(row: &[u8], rank: usize) -> RowLevel {
    bytemuck::pod_read_unaligned(&row[row_bytes(rank)..row_bytes(rank + 1)])
}

#[test]
fn a_row_comes_with_the_last_record_of_a_message_and_only_after_a_snapshot() {
    let mut views = Views::new(1, false);
    let lone = level(Action::Add, Side::Bid, (100, 1), (1, 0), F_LAST);
    assert!(feed(&mut views, 0, &lone).is_empty(), "no snapshot yet");
    assert!(feed(&mut views, 1, &level(Action::Clear, Side::None, (UNDEF_I64, 0), (UNDEF_I64, 0), 0)).is_empty());
    assert!(feed(&mut views, 2, &level(Action::Add, Side::Bid, (100, 1), (5, 0), 0)).is_empty());
    let row = feed(&mut views, 3, &level(Action::Add, Side::Ask, (1010, 2), (25, 1), F_LAST));
    assert_eq!(row.len(), row_bytes(1));
    let (head, best) = (head(&row), rank(&row, 0));
    assert_eq!((head.action, head.price, head.index, head.changes), (Action::Clear as u8, UNDEF_I64, 3, 2));
    assert_eq!((head.price_scale, head.size_scale), (2, 1), "common scales are the largest of the row");
    assert_eq!((best.bid_px, best.bid_sz, best.ask_px, best.ask_sz), (1000, 50, 1010, 25));
    assert_eq!((best.bid_px_scale, best.ask_px_scale, best.bid_sz_scale), (1, 2, 0), "the wire's scales are kept");
}

#[test]
fn an_absent_level_is_undef_and_a_cut_message_leaves_nothing() {
    let mut views = Views::new(2, false);
    feed(&mut views, 0, &level(Action::Clear, Side::None, (UNDEF_I64, 0), (UNDEF_I64, 0), 0));
    let row = feed(&mut views, 1, &level(Action::Add, Side::Bid, (5, 0), (1, 0), F_LAST));
    assert_eq!((rank(&row, 0).ask_px, rank(&row, 0).ask_sz, rank(&row, 1).bid_px), (UNDEF_I64, 0, UNDEF_I64));
    feed(&mut views, 2, &level(Action::Add, Side::Bid, (6, 0), (1, 0), 0));
    views.interrupt();
    let row = feed(&mut views, 3, &level(Action::Cancel, Side::Bid, (5, 0), (9, 0), F_LAST));
    assert_eq!(rank(&row, 0).bid_px, UNDEF_I64, "the half message is gone, and a cancel deletes whatever its size");
    views.forget();
    assert!(feed(&mut views, 4, &level(Action::Add, Side::Bid, (6, 0), (1, 0), F_LAST)).is_empty());
}

#[test]
fn bbo_speaks_when_the_touch_or_the_state_changes() {
    let mut views = Views::new(1, true);
    feed(&mut views, 0, &level(Action::Clear, Side::None, (UNDEF_I64, 0), (UNDEF_I64, 0), 0));
    assert!(!feed(&mut views, 1, &level(Action::Add, Side::Bid, (5, 0), (1, 0), F_LAST)).is_empty());
    assert!(feed(&mut views, 2, &level(Action::Add, Side::Bid, (4, 0), (1, 0), F_LAST)).is_empty());
    assert!(!feed(&mut views, 3, &level(Action::Modify, Side::Bid, (5, 0), (2, 0), F_LAST)).is_empty());
    let stale = Level { state: BookState::Stale as u8, ..level(Action::None, Side::None, (0, 0), (0, 0), F_LAST) };
    assert!(!feed(&mut views, 4, &stale).is_empty());
}

#[test]
fn numbers_without_a_common_scale_are_an_error_that_says_where() {
    let mut views = Views::new(1, false);
    feed(&mut views, 0, &level(Action::Clear, Side::None, (UNDEF_I64, 0), (UNDEF_I64, 0), 0));
    feed(&mut views, 1, &level(Action::Add, Side::Bid, (1, 18), (1, 0), 0));
    let wide = level(Action::Add, Side::Ask, (i64::MAX - 2, 0), (1, 0), F_LAST);
    let error = views.feed(2, &wide, &mut Vec::new()).expect_err("no scale fits");
    assert_eq!(error, ViewError::Scale { instrument_id: 7, index: 2 });
}

#[test]
fn as_of_stops_by_the_running_maximum_or_by_receive_time() {
    // Event times go back once (30, then 20): the message at 20 has the running maximum 30.
    let lines: Vec<Level> = [(10, 11), (30, 31), (20, 32), (UNDEF_U64, 33), (40, 41)]
        .iter()
        .enumerate()
        .map(|(at, &(ts_event, ts_recv))| {
            let action = if at == 0 { Action::Clear } else { Action::Add };
            Level { ts_event, ts_recv, sequence: at as u64, ..level(action, Side::Bid, (at as i64, 0), (1, 0), F_LAST) }
        })
        .collect();
    let reached = |at, known_at| {
        let mut as_of = AsOf::new(Replica::default(), Moment { at, known_at });
        lines.iter().enumerate().take_while(|(at, line)| as_of.level(*at as u64, line)).count()
    };
    assert_eq!(reached(9, UNDEF_U64), 0);
    assert_eq!(reached(29, UNDEF_U64), 1);
    assert_eq!(reached(30, UNDEF_U64), 4);
    assert_eq!(reached(UNDEF_U64, 32), 3);
    assert_eq!(reached(30, 31), 2);
    assert_eq!(reached(UNDEF_U64, UNDEF_U64), 5);
}

#[test]
fn a_snapshot_without_a_time_counts_with_the_venues_first_one_else_by_its_receive_time() {
    let known = |times: &[(u64, u64)], at| {
        let mut as_of = AsOf::new(Replica::default(), Moment { at, known_at: UNDEF_U64 });
        let clear = level(Action::Clear, Side::None, (UNDEF_I64, 0), (UNDEF_I64, 0), F_LAST);
        let lines = times.iter().map(|&(ts_event, ts_recv)| Level { ts_event, ts_recv, ..clear });
        let _ = lines.take_while(|line| as_of.level(0, line)).count();
        as_of.into_found().1
    };
    let dated = [(UNDEF_U64, 20), (UNDEF_U64, 21), (19, 25), (UNDEF_U64, 26), (30, 31)];
    assert_eq!([18, 19, 20, 30].map(|at| known(&dated, at)), [0, 26, 26, 31], "nothing was known before the first");
    assert_eq!([19, 20, 23, 25].map(|at| known(&[(UNDEF_U64, 20), (UNDEF_U64, 24)], at)), [0, 20, 20, 24]);
    assert_eq!([19, 22, 30].map(|at| known(&[(UNDEF_U64, 20), (30, 24)], at)), [0, 20, 24]);
}

#[test]
fn a_status_tells_the_books_state() {
    let mut as_of = AsOf::new(Replica::default(), Moment { at: UNDEF_U64, known_at: 50 });
    let gap = Status { subject: Subject::Book as u8, current: BookState::Gap as u8, ts_recv: 40, ..Status::zeroed() };
    assert!(as_of.status(&gap));
    assert!(!as_of.status(&Status { current: BookState::Live as u8, ts_recv: 51, ..gap }));
    assert_eq!(as_of.into_found().0.state(), BookState::Gap as u8);
}
