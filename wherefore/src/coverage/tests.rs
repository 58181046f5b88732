use proptest::prelude::*;

use super::*;

const LEAST: f64 = 0.95;
const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

const fn amount(packets: u64) -> Amount {
    Amount { packets, wire_bytes: packets * 1000 }
}

/// Five seconds of single frames: `counted` of `device`.
fn plain(counted: u64, device: u64) -> Counts {
    Counts {
        length: Duration::from_secs(5),
        seen: amount(counted),
        all: amount(counted),
        device: amount(device),
        ..Counts::default()
    }
}

/// The same of super-frames of 45 frames, of which the device counts `device` and as many bytes as we.
fn trains(counted: u64, device: u64) -> Counts {
    let bytes = counted * 45_000;
    let of = |packets| Amount { packets, wire_bytes: bytes };
    Counts { seen: of(counted), all: of(counted * 45), device: of(device), ..plain(0, 0) }
}

fn last(track: &mut Track, counts: Counts, times: usize) -> Coverage {
    (0..times).map(|_| track.add(&counts, LEAST)).last().expect("at least once")
}

fn share(coverage: &Coverage) -> f64 {
    coverage.window.share().expect("the device counted")
}

#[test]
fn a_device_s_unit_is_found_and_kept() {
    for direction in DIRECTIONS {
        let mut veth = Track::new(direction);
        assert_eq!(last(&mut veth, trains(1000, 1000), 3).unit, Unit::HandedOver);
        let mut card = Track::new(direction);
        assert_eq!(last(&mut card, trains(1000, 45_000), 3).unit, Unit::OnWire);
        // Packets of which half are missing are no other unit, and where a frame is a packet both fit.
        for track in [&mut veth, &mut card] {
            let unit = track.unit;
            assert_eq!(Some(last(track, plain(30_000, 30_000), 13).unit), unit);
            assert_eq!(Some(last(track, plain(30_000, 60_000), 13).unit), unit);
        }
    }
}

#[test]
fn a_device_that_counts_now_so_and_now_so_is_held_by_its_bytes() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        assert_eq!(last(&mut track, trains(1000, 1000), 13).unit, Unit::HandedOver);
        // Half of the super-frames are counted as their frames.
        let mixed = last(&mut track, trains(1000, 23_000), 13);
        assert_eq!((mixed.unit, mixed.verdict, share(&mixed)), (Unit::Bytes, Verdict::Fine, 1.0));
        // The same count of packets with twice the bytes is not of the same packets.
        let mut missing = trains(1000, 23_000);
        missing.device.wire_bytes *= 2;
        let missing = last(&mut track, missing, 13);
        assert_eq!((missing.unit, missing.verdict, share(&missing)), (Unit::Bytes, Verdict::Low, 0.5));
    }
}

#[test]
fn what_is_missing_is_told_and_so_is_its_return() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        assert_eq!(last(&mut track, plain(1000, 1000), 20).verdict, Verdict::Fine);
        assert_eq!(track.add(&plain(700, 1000), LEAST).verdict, Verdict::Fine, "2 % of a window");
        assert_eq!(last(&mut track, plain(700, 1000), 3).verdict, Verdict::Low);
        // Full again, but not yet in the window.
        assert_eq!(track.add(&plain(1000, 1000), LEAST).verdict, Verdict::Low);
        // Nothing at all proves nothing.
        assert_eq!(last(&mut track, plain(700, 1000), 14).verdict, Verdict::Low);
        assert_eq!(last(&mut track, plain(0, 0), 20).verdict, Verdict::Low);
        assert_eq!(track.add(&plain(1000, 1000), LEAST).verdict, Verdict::Fine);
    }
}

#[test]
fn the_first_interval_says_nothing_and_the_window_ends() {
    let mut track = Track::new(Direction::Egress);
    assert_eq!(track.add(&plain(0, 5000), LEAST).verdict, Verdict::Fine, "it may be of before");
    let coverage = last(&mut track, plain(1000, 1000), 13);
    assert_eq!((coverage.span, share(&coverage)), (Duration::from_secs(65), 1.0));
    let Coverage { window, .. } = coverage;
    assert_eq!((window.counted(), window.device(), window.missing()), (13_000, 13_000, 0));
}

#[test]
fn long_intervals_are_judged_by_three() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        let hour = |counted| Counts { length: Duration::from_secs(3600), ..plain(counted, 100_000) };
        assert_eq!(last(&mut track, hour(100_000), 9).verdict, Verdict::Fine);
        let low = last(&mut track, hour(60_000), 2);
        assert_eq!((low.verdict, low.span), (Verdict::Low, Duration::from_secs(3 * 3600)));
        assert_eq!(last(&mut track, hour(0), 3).verdict, Verdict::Blind);
    }
}

#[test]
fn short_intervals_are_put_together() {
    let mut track = Track::new(Direction::Egress);
    for _ in 0..10_000 {
        let coverage = track.add(&Counts { length: Duration::from_millis(100), ..plain(10, 10) }, LEAST);
        assert_eq!(share(&coverage), 1.0);
        assert!(coverage.span <= WINDOW + LAG + STEP);
    }
    assert!(track.steps.len() <= 33, "{}", track.steps.len());
}

#[test]
fn silence_on_a_busy_device_is_loud_and_on_a_quiet_one_nothing() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        last(&mut track, plain(100_000, 100_000), 20);
        // The device tells late what was counted before.
        assert_eq!(track.add(&plain(0, 40_000), LEAST).verdict, Verdict::Fine);
        assert_eq!(track.add(&plain(0, BUSY), LEAST).verdict, Verdict::Blind);
        // A trickle does not make it better.
        assert_eq!(track.add(&plain(3, 5000), LEAST).verdict, Verdict::Blind);
        assert_eq!(last(&mut track, plain(5000, 5000), 14).verdict, Verdict::Fine);

        let mut quiet = Track::new(direction);
        // Frames that no host is handed: five a minute, and 99 of them within a window.
        assert_eq!(last(&mut quiet, plain(0, 1), 1000).verdict, Verdict::Fine);
        assert_eq!(last(&mut quiet, plain(0, 7), 1000).verdict, Verdict::Fine);
    }
}

/// What a device does not count hides nothing that comes later, in the figures as in the verdict.
#[test]
fn an_excess_hides_no_later_loss() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        // Frames of which it joins a few: no unit fits better.
        let coverage = last(&mut track, plain(1300, 1000), 8);
        assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Fine, 1.0));
        assert_eq!(coverage.window.ratio(), Some(1.3));
        let coverage = last(&mut track, plain(600, 1000), 5);
        // 520 of them may have been told late.
        assert_eq!((coverage.window.missing(), coverage.verdict), (5 * 400 - 520, Verdict::Low));
        assert!(coverage.window.ratio() > Some(1.0), "{coverage:?}");
    }
}

/// Super-frames of which only one end is known to count as one, and not how many frames they are.
#[test]
fn what_is_estimated_is_held_by_its_bytes() {
    for direction in DIRECTIONS {
        // Of 45 frames each, of which we lack the headers.
        let merged = |counted: u64, device: u64| Counts {
            seen: Amount { packets: counted, wire_bytes: counted * 45 * 1000 },
            all: Amount { packets: counted, wire_bytes: counted * 45 * 1000 },
            estimated: Amount { packets: counted, wire_bytes: counted * 45 * 1000 },
            device: Amount { packets: device * 45, wire_bytes: device * 45 * 1054 },
            ..plain(0, 0)
        };
        let mut track = Track::new(direction);
        let whole = last(&mut track, merged(1000, 1000), 13);
        assert_eq!((whole.unit, whole.verdict, share(&whole)), (Unit::Bytes, Verdict::Fine, 1.0));
        let half = last(&mut track, merged(500, 1000), 13);
        assert_eq!((half.unit, half.verdict), (Unit::Bytes, Verdict::Low));
        assert!((0.47..0.53).contains(&share(&half)), "{half:?}");
        // Where the device counts them as we do, packets tell more.
        let mut veth = Track::new(direction);
        let device = amount(1000);
        assert_eq!(last(&mut veth, Counts { device, ..merged(1000, 0) }, 3).unit, Unit::HandedOver);
    }
}

/// Only its own headers can be missing, and not those of others.
#[test]
fn one_merged_packet_hides_no_loss() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        let estimated = Amount { packets: 1, wire_bytes: 45_000 };
        let coverage = last(&mut track, Counts { estimated, ..plain(9200, 10_000) }, 13);
        assert_eq!(coverage.unit, Unit::Bytes, "{coverage:?}");
        assert!((0.920..0.921).contains(&share(&coverage)), "{coverage:?}");
    }
}

/// What the capture lost is told of the window alone, in its unit.
#[test]
fn what_the_capture_lost_is_of_the_window() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        let coverage = last(&mut track, Counts { lost: 300, ..plain(700, 1000) }, 3);
        assert_eq!((coverage.unit, coverage.lost, coverage.packets), (Unit::HandedOver, 900, 3000));
        let coverage = last(&mut track, plain(700, 1000), 13);
        assert_eq!((coverage.verdict, coverage.lost, coverage.packets), (Verdict::Low, 0, 13_000));

        // As many bytes as those that were counted.
        let mut track = Track::new(direction);
        let mixed = Counts { lost: 10, ..trains(990, 23_000) };
        let coverage = last(&mut track, mixed, 3);
        assert_eq!((coverage.unit, coverage.lost), (Unit::Bytes, 3 * 10 * 45_000));
        // Where not one was counted, as those of the device.
        let mut track = Track::new(direction);
        track.unit = Some(Unit::Bytes);
        assert_eq!(track.add(&Counts { lost: 5, ..plain(0, 50) }, LEAST).lost, 5000);
    }
}

/// Attaching takes some milliseconds, in which packets may be counted or not.
#[test]
fn what_passed_while_counting_began_or_ended_is_neither_missing_nor_too_much() {
    for (direction, counted) in DIRECTIONS.into_iter().flat_map(|way| [(way, 1000), (way, 1015), (way, 1030)])
    {
        let mut track = Track::new(direction);
        let coverage = track.add(&Counts { edges: amount(30), ..plain(counted, 1000) }, LEAST);
        assert_eq!((coverage.window.missing(), coverage.window.ratio()), (0, Some(1.0)));
        // They may be those that the device tells next, too.
        let more = counted - 1000;
        assert_eq!(track.add(&plain(1000, 1000 + more), LEAST).window.missing(), 0);
        let coverage = track.add(&Counts { edges: amount(30), ..plain(900, 1000) }, LEAST);
        assert_eq!(coverage.window.missing(), 100);
    }
}

/// A driver that shows its counters late, and a burst at an interval's end that leaves the window before its late
/// part does.
#[test]
fn counters_that_come_late_are_not_blindness() {
    for direction in DIRECTIONS {
        let mut track = Track::new(direction);
        let burst = [plain(10_000, 9_000), plain(1_000_000, 300_000), plain(10, 701_000)];
        for counts in burst.into_iter().chain([plain(10, 10); 40]) {
            let coverage = track.add(&counts, LEAST);
            assert_eq!(coverage.verdict, Verdict::Fine, "{coverage:?}");
        }
    }
}

#[test]
fn dropped_packets_are_not_missing() {
    // A queueing discipline drops a third of what we counted.
    let mut egress = Track::new(Direction::Egress);
    let coverage = last(&mut egress, Counts { dropped: 1000, ..plain(3000, 2000) }, 13);
    assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Fine, 1.0));
    // And does not hide what never came by us.
    let coverage = last(&mut egress, Counts { dropped: 1000, ..plain(3000, 4000) }, 13);
    assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Low, 0.5));
    // The backlog of a receiving processor was full: those packets came by nobody.
    let mut ingress = Track::new(Direction::Ingress);
    let coverage = last(&mut ingress, Counts { dropped: 1000, ..plain(2000, 3000) }, 13);
    assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Fine, 1.0));
    let coverage = last(&mut ingress, Counts { dropped: 1000, ..plain(2000, 5000) }, 13);
    assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Low, 0.5));
    // Nobody wanted them, after they were counted.
    let coverage = last(&mut ingress, Counts { dropped: 3000, ..plain(3000, 3000) }, 13);
    assert_eq!((coverage.verdict, share(&coverage)), (Verdict::Fine, 1.0));
}

#[test]
fn counters_that_went_back_say_nothing() {
    let queue = |handle, dropped| Some(Queue { handle, dropped });
    let counters = |packets, dropped, queue| Counters { passed: amount(packets), dropped, queue };
    let before = counters(100, 5, queue(1, u32::MAX - 1));
    assert_eq!(counters(130, 7, queue(1, 3)).since(&before), Some((amount(30), 2 + 5)), "32 bits wrap");
    assert_eq!(counters(130, 5, queue(2, 3)).since(&before), Some((amount(30), 3)), "another discipline");
    assert_eq!(counters(130, 5, None).since(&before), Some((amount(30), 0)));
    assert_eq!(counters(99, 5, None).since(&before), None);
    assert_eq!(counters(130, 4, None).since(&before), None);
    let before = counters(100, 5, queue(1, 1000));
    assert_eq!(counters(130, 5, queue(1, 10)).since(&before), Some((amount(30), 10)), "made anew");
}

proptest! {
    /// Whatever passes: where all of it is counted there is never a word, and the share is 1.
    #[test]
    fn what_is_whole_is_never_told(
        packets in prop::collection::vec(0u64..100_000, 1..60), late in any::<bool>(), wire in any::<bool>(),
    ) {
        for direction in DIRECTIONS {
            let mut track = Track::new(direction);
            let mut owed = 0;
            for packets in &packets {
                // A second of the five is told with the next interval.
                let now = if late { packets / 5 * 4 } else { *packets };
                let told = now + std::mem::replace(&mut owed, packets - now);
                let counts = if wire { trains(*packets, told * 45) } else { trains(*packets, told) };
                let coverage = track.add(&counts, LEAST);
                prop_assert_eq!(coverage.verdict, Verdict::Fine);
                if !late && coverage.window.device() > 0 {
                    prop_assert_eq!(coverage.window.share(), Some(1.0));
                }
            }
        }
    }

    /// Whatever the device says, nothing panics.
    #[test]
    fn any_counts_are_taken(counts in prop::collection::vec(any::<[u32; 8]>(), 0..100), least in 0.0f64..1.0) {
        for direction in DIRECTIONS {
            let mut track = Track::new(direction);
            for numbers in &counts {
                let [length, rest @ ..] = numbers.map(u64::from);
                let of = |at: usize| Amount { packets: rest[at], wire_bytes: rest[at + 1] };
                let counts = Counts {
                    length: Duration::from_millis(length),
                    seen: of(0),
                    all: of(2),
                    device: of(4),
                    estimated: of(5),
                    edges: of(3),
                    dropped: rest[6],
                    lost: rest[1],
                };
                let coverage = track.add(&counts, least);
                prop_assert!(coverage.verdict == track.verdict);
            }
        }
    }
}
