//! The second route takes over for as long as the first one fails.

use super::{Discover, Found};
use std::time::Duration;

/// Two routes. The first one is tried again each time: what made it fail may pass.
pub struct Fallback {
    first: Box<dyn Discover>,
    second: Box<dyn Discover>,
    /// Why the first route failed last time.
    failure: Option<String>,
}

impl Fallback {
    /// Takes `first`, or `second` where that fails.
    pub fn new(first: Box<dyn Discover>, second: Box<dyn Discover>) -> Self {
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

impl Discover for Fallback {
    fn route(&self) -> &'static str {
        match self.failure {
            None => self.first.route(),
            Some(_) => self.second.route(),
        }
    }

    fn discover(&mut self, at: Duration) -> Result<Found, String> {
        let result = self.first.discover(at);
        let failure = result.as_ref().err();
        self.tell(failure.map(String::as_str));
        self.failure = failure.cloned();
        let Err(why) = result else {
            return result;
        };
        match self.second.discover(at) {
            Ok(found) => Ok(Found {
                fallen_back: Some(why),
                ..found
            }),
            Err(second) => Err(format!("{why}; {second}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    struct Route {
        name: &'static str,
        processes: usize,
        broken: Arc<AtomicBool>,
    }

    impl Discover for Route {
        fn route(&self) -> &'static str {
            self.name
        }

        fn discover(&mut self, _: Duration) -> Result<Found, String> {
            if self.broken.load(Relaxed) {
                return Err(format!("{} is broken", self.name));
            }
            Ok(Found {
                processes: self.processes,
                ..Found::default()
            })
        }
    }

    fn route(name: &'static str, processes: usize) -> (Box<Route>, Arc<AtomicBool>) {
        let broken = Arc::new(AtomicBool::new(false));
        let route = Route {
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
        let mut both = Fallback::new(first, second);
        let mut discover = |first_broken, second_broken| {
            broken.store(first_broken, Relaxed);
            both_broken.store(second_broken, Relaxed);
            let result = both.discover(Duration::ZERO);
            (both.route(), result.map(|f| (f.processes, f.fallen_back)))
        };
        let why = || Some("first is broken".to_owned());
        assert_eq!(discover(false, true), ("first", Ok((1, None))));
        assert_eq!(discover(true, false), ("second", Ok((2, why()))));
        let both = "first is broken; second is broken".to_owned();
        assert_eq!(discover(true, true), ("second", Err(both)));
        assert_eq!(discover(false, false), ("first", Ok((1, None))));
    }
}
