//! The second route takes over while the first one fails.

use super::{DiscoveryError, DiscoveryOutcome, DiscoveryRoute, LookFailure, LookWatch};
use std::time::Duration;

/// Two routes. The first one is tried again each time: what made it fail may pass.
pub struct FallbackRoute {
    first: Box<dyn DiscoveryRoute>,
    second: Box<dyn DiscoveryRoute>,
    /// Why the first route failed last time.
    failure: Option<String>,
}

impl FallbackRoute {
    /// Takes `first`, or `second` when that fails.
    pub fn new(first: Box<dyn DiscoveryRoute>, second: Box<dyn DiscoveryRoute>) -> Self {
        Self {
            first,
            second,
            failure: None,
        }
    }

    /// Logs a change of the route, not each discovery.
    fn tell(&self, failure: Option<&str>) {
        let (first, second) = (self.first.route(), self.second.route());
        match (&self.failure, failure) {
            (None, Some(why)) => {
                tracing::warn!("discovery goes on with {second} until {first} works again: {why}");
            }
            (Some(_), None) => tracing::info!("discovery is back to {first}"),
            _ => {}
        }
    }
}

impl DiscoveryRoute for FallbackRoute {
    fn route(&self) -> &'static str {
        match self.failure {
            None => self.first.route(),
            Some(_) => self.second.route(),
        }
    }

    fn discover(
        &mut self,
        at: Duration,
        watch: &LookWatch,
    ) -> Result<DiscoveryOutcome, DiscoveryError> {
        let result = self.first.discover(at, watch);
        if matches!(result, Err(DiscoveryError::Look(LookFailure::GivenUp))) {
            return result;
        }
        let failure = result.as_ref().err().map(ToString::to_string);
        self.tell(failure.as_deref());
        self.failure.clone_from(&failure);
        let Err(first) = result else {
            return result;
        };
        match self.second.discover(at, watch) {
            Ok(outcome) => Ok(DiscoveryOutcome {
                fallen_back: failure,
                ..outcome
            }),
            Err(second) => Err(DiscoveryError::BothRoutes {
                first: Box::new(first),
                second: Box::new(second),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    struct FakeRoute {
        name: &'static str,
        processes: usize,
        broken: Arc<AtomicBool>,
    }

    impl DiscoveryRoute for FakeRoute {
        fn route(&self) -> &'static str {
            self.name
        }

        fn discover(
            &mut self,
            _: Duration,
            _: &LookWatch,
        ) -> Result<DiscoveryOutcome, DiscoveryError> {
            if self.broken.load(Relaxed) {
                return Err(error_of(self.name));
            }
            Ok(DiscoveryOutcome {
                processes: self.processes,
                ..DiscoveryOutcome::default()
            })
        }
    }

    fn error_of(route: &str) -> DiscoveryError {
        let error = io::Error::other(format!("{route} is broken"));
        DiscoveryError::Iterator(error.into())
    }

    fn route(name: &'static str, processes: usize) -> (Box<FakeRoute>, Arc<AtomicBool>) {
        let broken = Arc::new(AtomicBool::new(false));
        let route = FakeRoute {
            name,
            processes,
            broken: broken.clone(),
        };
        (Box::new(route), broken)
    }

    #[test]
    fn the_second_route_is_taken_while_the_first_one_fails() {
        let (first, broken) = route("first", 1);
        let (second, both_broken) = route("second", 2);
        let mut both = FallbackRoute::new(first, second);
        let mut discover = |first_broken, second_broken| {
            broken.store(first_broken, Relaxed);
            both_broken.store(second_broken, Relaxed);
            let watch = LookWatch::new(Default::default());
            let result = both.discover(Duration::ZERO, &watch);
            let result = result.map(|f| (f.processes, f.fallen_back));
            (both.route(), result.map_err(|error| error.to_string()))
        };
        let why = || Some(error_of("first").to_string());
        assert_eq!(discover(false, true), ("first", Ok((1, None))));
        assert_eq!(discover(true, false), ("second", Ok((2, why()))));
        let both = format!("{}; {}", error_of("first"), error_of("second"));
        assert_eq!(discover(true, true), ("second", Err(both)));
        assert_eq!(discover(false, false), ("first", Ok((1, None))));
    }
}
