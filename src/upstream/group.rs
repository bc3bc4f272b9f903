//! Endpoints and the groups that routes point to. Built once per configuration.

use std::sync::Arc;

use crate::config::model::{Model, Upstream};

/// Place of an endpoint in [`Groups::endpoints`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// Place of a group in [`Groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(pub u32);

/// One endpoint: where it is and how it is called in logs.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub upstream: Upstream,
    /// Its text form.
    pub label: Arc<str>,
}

/// Every endpoint once, and the groups over them.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    endpoints: Vec<Endpoint>,
    groups: Vec<Vec<EndpointId>>,
}

impl Groups {
    /// The groups of `model`, with the group of each site's routes in the order of the routes.
    #[must_use]
    pub fn of(model: &Model) -> (Self, Vec<Vec<GroupId>>) {
        let mut all = Self::default();
        let mut index = std::collections::HashMap::new();
        let mut by_site = Vec::with_capacity(model.sites.len());
        for site in &model.sites {
            let mut of_routes = Vec::with_capacity(site.routes.len());
            for route in &site.routes {
                let members = route.to.iter().map(|upstream| all.intern(upstream, &mut index)).collect();
                of_routes.push(GroupId(all.groups.len() as u32));
                all.groups.push(members);
            }
            by_site.push(of_routes);
        }
        (all, by_site)
    }

    fn intern(
        &mut self,
        upstream: &Upstream,
        index: &mut std::collections::HashMap<Upstream, EndpointId>,
    ) -> EndpointId {
        *index.entry(upstream.clone()).or_insert_with(|| {
            let id = EndpointId(self.endpoints.len() as u32);
            self.endpoints.push(Endpoint { upstream: upstream.clone(), label: upstream.to_string().into() });
            id
        })
    }

    /// The members of a group; empty for an id of another configuration.
    #[must_use]
    pub fn members(&self, group: GroupId) -> &[EndpointId] {
        self.groups.get(group.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// An endpoint.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id.0 as usize)
    }

    /// All endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}
