//! Values of flags: durations, shares, strategies, sizes, paths. Each error says what would be
//! right.

use std::time::Duration;

use pages::strategy::StrategyName;

use crate::top;

/// Units of a duration, longest suffix first so that `ms` is not read as `m`.
const UNITS: [(&str, f64); 5] = [
    ("ms", 1e-3),
    ("us", 1e-6),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// The longest duration that makes sense to wait for anything.
const LONGEST: f64 = 7.0 * 24.0 * 3600.0;

/// A duration with its unit: `500ms`, `5s`, `2m`, `1h`; more than 0, at most a week.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for example 500ms, 5s, 2m or 1h");
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|n| (n, unit)))
        .ok_or_else(wrong)?;
    let seconds = decimal(number).ok_or_else(wrong)? * unit;
    if seconds <= 0.0 || seconds > LONGEST {
        return Err(format!("`{text}` must be more than 0 and at most 168h"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A share of one CPU core: `1%`, `0.5%`; `0%` switches off what it limits.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a share of one CPU core; write for example 1% or 0.5%");
    let percent = text
        .strip_suffix('%')
        .and_then(decimal)
        .filter(|p| *p <= 100.0)
        .ok_or_else(wrong)?;
    Ok(percent / 100.0)
}

/// A share of one CPU core, more than 0%.
pub(crate) fn positive_share(text: &str) -> Result<f64, String> {
    match share(text)? {
        share if share > 0.0 => Ok(share),
        _ => Err(format!(
            "`{text}` must be more than 0%; write for example 1%"
        )),
    }
}

/// A strategy by its name, or `auto`.
pub(crate) fn strategy(text: &str) -> Result<AskedStrategy, String> {
    if text == "auto" {
        return Ok(AskedStrategy(None));
    }
    match text.parse::<StrategyName>() {
        Ok(name) if name.is_in_process() => Err(format!(
            "{name} tracks only the process it runs in; choose another"
        )),
        Ok(name) => Ok(AskedStrategy(Some(name))),
        Err(error) => Err(format!("{error}, auto")),
    }
}

/// Help for a flag that takes any strategy.
pub(crate) fn track_help() -> String {
    format!(
        "How to track: {}, or auto, the best that works here (docs/strategies.md; `tracker check`)",
        listed(StrategyName::outside(), ", ")
    )
}

/// Help for the agent's flag: unasked, the agent takes nothing that reads all memory in each round.
pub(crate) fn agent_help() -> String {
    let outside = StrategyName::outside();
    let never = outside.filter(|name| {
        !name.is_auto() || name.reads_content() || name.always_waits() || name.is_observed()
    });
    format!(
        "How to track: {}, or auto, the best that works here, which is never {} \
         (docs/strategies.md; `tracker check`)",
        listed(StrategyName::outside(), ", "),
        listed(never, " or ")
    )
}

/// Help for a flag that takes strategies that arm pages.
pub(crate) fn arming_help() -> String {
    let arming = StrategyName::outside().filter(|name| name.needs_descriptor());
    format!("How to track: {}, or auto", listed(arming, ", "))
}

fn listed(names: impl Iterator<Item = StrategyName>, between: &str) -> String {
    names
        .map(StrategyName::as_str)
        .collect::<Vec<_>>()
        .join(between)
}

/// A strategy. `None`: the best that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedStrategy(pub Option<StrategyName>);

/// Bytes with a unit: `512MiB`, `128GiB`, `2TiB`; more than 0.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for example 512MiB, 128GiB or 2TiB");
    let units = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) = units
        .iter()
        .find_map(|(suffix, shift)| text.strip_suffix(suffix).map(|n| (n, *shift)))
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes != 0);
    bytes.ok_or_else(wrong)
}

/// An address in hexadecimal, as maps(5) and debuggers show it.
pub(crate) fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map_err(|_| format!("`{text}` is not an address; write for example 0x7f12a4c00000"))
}

/// Digits with at most one dot: no sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

/// A path below which nothing else is served: `/metrics`, `/a/b`.
pub(crate) fn telemetry_path(text: &str) -> Result<String, String> {
    const TAKEN: [&str; 5] = ["/", "/healthz", "/readyz", "/status", top::usage::PATH];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._~-".contains(&b);
    if !text.starts_with('/') || !text.bytes().all(plain) {
        return Err(format!(
            "`{text}` is not a path; write for example /metrics (letters, digits and /._~- only)"
        ));
    }
    if TAKEN.contains(&text) {
        return Err(format!(
            "{text} serves something else; take another path, for example /metrics"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in [
            "", "5", "s", "-1s", "0s", "1e3s", "infs", "nans", "1.2.3s", "169h", "5 s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares() {
        assert!((share("1%").unwrap() - 0.01).abs() < 1e-12);
        assert!(share("0%").unwrap().abs() < 1e-12);
        assert!(positive_share("0%").is_err() && positive_share("0.1%").is_ok());
        for wrong in ["", "%", "1", "-1%", "101%", "inf%", "nan%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("128GiB").unwrap(), 128 << 30);
        assert_eq!(size("1MiB").unwrap(), 1 << 20);
        for wrong in [
            "",
            "1",
            "GiB",
            "0GiB",
            "1.5GiB",
            "-1GiB",
            "1GB",
            "99999999999TiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn strategies() {
        assert_eq!(strategy("auto").unwrap(), AskedStrategy(None));
        let hash = AskedStrategy(Some(StrategyName::Hash));
        assert_eq!(strategy("hash").unwrap(), hash);
        assert!(strategy("mprotect").unwrap_err().contains("choose another"));
        let observed = AskedStrategy(Some(StrategyName::FaultTime));
        assert_eq!(strategy("fault-time").unwrap(), observed);
        assert_eq!(strategy("hash").unwrap(), hash);
        assert!(strategy("Hash").unwrap_err().ends_with("mprotect, auto"));
    }

    #[test]
    fn helps_name_what_can_be_asked_for() {
        let begins = |help: String, names: &str| {
            let expected = format!("How to track: {names}, or auto");
            assert!(help.starts_with(&expected), "{help}");
        };
        let all = listed(StrategyName::outside(), ", ");
        begins(track_help(), &all);
        begins(agent_help(), &all);
        let help = agent_help();
        let (_, never) = help.split_once("never ").unwrap();
        for name in [
            StrategyName::Hash,
            StrategyName::SoftDirty,
            StrategyName::Sync,
            StrategyName::FaultTime,
        ] {
            assert!(never.contains(name.as_str()), "{help}");
        }
        let arming = all.replace(", hash, soft-dirty", "");
        begins(arming_help(), &arming);
    }

    #[test]
    fn telemetry_paths() {
        assert_eq!(telemetry_path("/metrics").unwrap(), "/metrics");
        for wrong in [
            "", "metrics", "/", "/healthz", "/{x}", "/a b", "/*", "/%2f", "/\n",
        ] {
            assert!(telemetry_path(wrong).is_err(), "{wrong}");
        }
    }
}
