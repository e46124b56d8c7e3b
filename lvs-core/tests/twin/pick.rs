//! The schedulers, written down a second time.

use core::net::IpAddr;

use super::{Service, Twin};

impl Twin {
    pub(super) fn pick(&mut self, service: usize, destination: IpAddr) -> Option<usize> {
        let Service { scheduler, ref servers, last, ref cache, .. } = self.services[service];
        let usable = |&at: &usize| !self.servers[at].overloaded && self.servers[at].config.weight.get() > 0;
        let weight = |at: usize| i64::from(self.servers[at].config.weight.get());
        let active = |at: usize| i64::from(self.active(at));
        let load = |at: usize| active(at) * 256 + i64::from(self.total(at));
        let mut list = servers.iter().copied().filter(usable);
        // Loads per weight compare as fractions: a/b < c/d as a*d < c*b. Of equals the first stays.
        let least = |cost: &dyn Fn(usize) -> i64, list: &mut dyn Iterator<Item = usize>| {
            list.reduce(|best, at| if cost(at) * weight(best) < cost(best) * weight(at) { at } else { best })
        };
        let known = cache.iter().find(|(address, _)| *address == destination).map(|(_, set)| set);
        let has = |at: usize| known.is_some_and(|set| set.contains(&self.servers[at].config.address));
        let overrun = |at: usize| {
            active(at) > weight(at) && servers.iter().any(|&other| active(other) * 2 < weight(other))
        };
        let picked = match scheduler {
            "lblc" => {
                let kept = servers.iter().copied().find(|&at| has(at) && weight(at) > 0 && !overrun(at));
                kept.or_else(|| least(&load, &mut list))
            }
            "lblcr" => {
                let set = known.into_iter().flatten();
                let members =
                    set.filter_map(|a| list.clone().find(|&at| self.servers[at].config.address == *a));
                let kept = least(&load, &mut members.collect::<Vec<_>>().into_iter());
                kept.filter(|&at| !overrun(at)).or_else(|| least(&load, &mut list))
            }
            "rr" => {
                let start =
                    last.and_then(|last| servers.iter().position(|&at| at == last)).map_or(0, |at| at + 1);
                let (before, after) = servers.split_at(start);
                after.iter().chain(before).copied().find(usable)
            }
            "lc" => list.reduce(|best, at| if load(at) < load(best) { at } else { best }),
            "wlc" => least(&load, &mut list),
            "sed" => least(&|at| active(at) + 1, &mut list),
            "nq" => {
                let idle = list.clone().find(|&at| active(at) == 0);
                idle.or_else(|| least(&|at| active(at) + 1, &mut list))
            }
            "fo" => list.reduce(|best, at| if weight(at) > weight(best) { at } else { best }),
            "ovf" => {
                let open = list.filter(|&at| active(at) <= weight(at));
                open.reduce(|best, at| if weight(at) > weight(best) { at } else { best })
            }
            other => panic!("no twin of {other}"),
        };
        if scheduler == "rr" && picked.is_some() {
            self.services[service].last = picked;
        }
        if let (Some(picked), "lblc" | "lblcr") = (picked, scheduler) {
            let address = self.servers[picked].config.address;
            let cache = &mut self.services[service].cache;
            match cache.iter_mut().find(|entry| entry.0 == destination) {
                None => cache.push((destination, vec![address])),
                Some((_, set)) if scheduler == "lblc" => *set = vec![address],
                Some((_, set)) if set.contains(&address) => {}
                Some((_, set)) => set.insert(0, address),
            }
        }
        picked
    }
}
