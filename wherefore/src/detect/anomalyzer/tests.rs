mod exact;
mod precise;

use proptest::prelude::*;

use super::*;

fn all(active_size: usize, n_seasons: usize) -> Anomalyzer {
    Anomalyzer::new(Settings {
        methods: Method::ALL.to_vec(),
        sensitivity: 0.1,
        upper_bound: 1000.0,
        active_size,
        n_seasons,
        perm_count: 50,
        ..Settings::original()
    })
    .unwrap()
}

/// Byte counts with zeros and ties, as traffic has them.
fn series() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![Just(0.0), (0_u32..5).prop_map(f64::from), 0.0..1e12_f64], 0..45)
}

proptest! {
    #[test]
    fn a_probability_is_one_and_the_same(values in series(), active in 1_usize..4, seasons in 4_usize..12) {
        let evaluation = all(active, seasons).judge(&values);
        prop_assert!((0.0..=1.0).contains(&evaluation.probability));
        for part in &evaluation.parts {
            prop_assert!(part.value.is_nan() || (0.0..=1.0).contains(&part.value));
        }
        if !values.is_empty() {
            prop_assert_eq!(evaluation, all(active, seasons).judge(&values));
        }
    }

    #[test]
    fn any_floats_are_survived(values in prop::collection::vec(any::<f64>(), 0..20), active in 1_usize..4) {
        let probability = all(active, 4).judge(&values).probability;
        prop_assert!((0.0..=1.0).contains(&probability), "{}", probability);
    }

    /// Only the fence knows a unit: doubling every value (exact in binary) changes no other test. Samples are
    /// seeded by the values, so those tests may differ by chance: 50 shuffles twice, five sigma.
    #[test]
    fn scale_does_not_matter(values in series(), active in 1_usize..4) {
        let mut detector = all(active, 4);
        let doubled: Vec<f64> = values.iter().map(|value| value * 2.0).collect();
        for ((method, one), (_, two)) in detector.raw(&values).into_iter().zip(detector.raw(&doubled)) {
            match (method, one, two) {
                (Method::Fence, ..) => {}
                (Method::Diff | Method::Ks, Some(one), Some(two)) => {
                    prop_assert!((one - two).abs() <= 0.5, "{:?}: {} {}", method, one, two);
                }
                (_, one, two) => prop_assert_eq!(one, two, "{:?}", method),
            }
        }
    }

    /// With the whole history as reference, the order of the earlier values matters to neither mean nor rank.
    #[test]
    fn order_of_the_reference_does_not_matter(mut values in series(), last in 0.0..1e12_f64) {
        let mut detector = Anomalyzer::new(Settings { n_seasons: 50, ..Settings::default() }).unwrap();
        let mut pick = |values: &[f64]| {
            let raw = detector.raw(values);
            raw.into_iter().filter(|(method, _)| *method != Method::Diff).collect::<Vec<_>>()
        };
        // Whole numbers: their sums are exact in any order.
        values.iter_mut().for_each(|value| *value = value.round());
        values.push(last.round());
        let before = pick(&values);
        let end = values.len() - 1;
        values[..end].reverse();
        prop_assert_eq!(before, pick(&values));
    }
}

#[test]
fn methods_apply_from_the_least_number_of_points_on() {
    for active in 1..5 {
        let mut detector = all(active, 12);
        for method in Method::ALL {
            let mut not_yet = |points: usize| {
                let values: Vec<f64> = (0..points).map(|i| i as f64).collect();
                detector.raw(&values).contains(&(method, None))
            };
            let least = method.least(active);
            assert!(!not_yet(least), "{method:?} {active}");
            assert!(least == 1 || not_yet(least - 1), "{method:?} {active}");
        }
    }
}

#[test]
fn the_original_speaks_once_and_never_again() {
    let mut detector = Anomalyzer::new(Settings::original()).unwrap();
    assert_eq!(detector.judge(&[250.0]).probability, 1.0);
    let burst = detector.judge(&[250.0, 250.0, 250.0, 200_200.0]);
    assert_eq!(burst.probability, 0.0);
    assert_eq!(burst.parts.len(), 1, "the other tests need not run: {:?}", burst.parts);
}

#[test]
fn refusals_name_the_flag_and_what_is_allowed() {
    let refusal = |settings| Anomalyzer::new(settings).unwrap_err().to_string();
    let fence = || Settings { methods: vec![Method::Fence], ..Settings::original() };
    for (settings, flag) in [
        (Settings { active_size: 0, ..fence() }, "--anom-active-size"),
        (Settings { n_seasons: 3, ..fence() }, "--anom-n-seasons"),
        (Settings { lower_bound: Some(6.0), ..fence() }, "--anom-upper-bound"),
        (Settings { upper_bound: f64::NAN, ..fence() }, "--anom-upper-bound"),
        (Settings { sensitivity: f64::NAN, ..Settings::default() }, "--anom-sensitivity"),
        (Settings { perm_count: usize::MAX, ..Settings::default() }, "shuffles"),
    ] {
        let message = refusal(settings);
        assert!(message.contains(flag), "{message}");
    }
    // The smallest number there is has 300 zeros, which nobody wants to read.
    assert!(refusal(Settings { upper_bound: 5e-324, ..fence() }).contains(" 5e-324; "));
    let message = " diff".parse::<Method>().unwrap_err().to_string();
    assert!(message.contains("\" diff\"") && message.contains("highrank"), "{message}");
    // A product beyond usize is a large window, not a panic.
    let huge = Settings { n_seasons: usize::MAX, active_size: 2, ..Settings::default() };
    assert!(Anomalyzer::new(huge).unwrap().judge(&[1.0; 30]).probability >= 0.0);
}

#[test]
fn a_history_that_is_too_short_is_never_unusual() {
    let delayed = Settings { delay: true, n_seasons: 7, active_size: 3, ..Settings::default() };
    let both = Settings { methods: vec![Method::Magnitude, Method::Diff], ..Settings::default() };
    for (settings, least) in [(Settings::default(), 2), (delayed, 24), (both, 2)] {
        let mut anomalyzer = Anomalyzer::new(settings).unwrap();
        assert_eq!(anomalyzer.least(), least);
        let mut history = vec![1.0; least];
        history[least - 1] = 1e9;
        assert_eq!(anomalyzer.judge(&history[1..]).probability, 0.0);
        assert!(anomalyzer.judge(&history).probability > 0.0);
    }
}
