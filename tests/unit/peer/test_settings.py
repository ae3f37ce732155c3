"""The environment of the contract."""

from __future__ import annotations

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.servers import stun_sites
from lab.peer.settings import SettingsError, UnsupportedRoleError, from_environment
from lab.peer.stun.responder import Site

LEAST = {"LAB_NODE": "alice", "LAB_ROLE": "peer"}


def test_all_of_it():
    settings = from_environment(
        {
            "LAB_NAME": "l",
            "LAB_NODE": "alice",
            "LAB_SEED": "9",
            "LAB_ROLE": "peer,stun",
            "LAB_DIR": "/somewhere",
            "LAB_ADDRESSES": "45.0.0.2,45.0.0.3",
            "LAB_STUN": "45.0.0.2:3478,45.0.0.3:3478",
            "LAB_RENDEZVOUS": "45.0.0.4:4000",
            "LAB_RELAY": "45.0.0.5:3478",
            "LAB_RELAY_USER": "u",
            "LAB_RELAY_PASSWORD": "p",
        }
    )
    assert settings.roles == ("peer", "stun")
    assert settings.stun[1] == Endpoint("45.0.0.3", 3478)
    assert settings.rendezvous == (Endpoint("45.0.0.4", 4000),)
    assert settings.bind == ""
    assert stun_sites(settings) == (Site("45.0.0.2", "45.0.0.3", 3478, 3479),)


def test_the_least():
    settings = from_environment(LEAST)
    assert settings.rendezvous == ()
    assert settings.stun == ()


def test_one_address_is_bound_to():
    settings = from_environment({**LEAST, "LAB_ADDRESSES": "192.168.1.2"})
    assert settings.bind == "192.168.1.2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAB_NODE", ""),
        ("LAB_NODE", "a/b"),
        ("LAB_ROLE", ""),
        ("LAB_SEED", "x"),
        ("LAB_ADDRESSES", "45.0.0"),
        ("LAB_STUN", "45.0.0.2"),
        ("LAB_RELAY", "45.0.0.2:99999"),
    ],
)
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        from_environment({**LEAST, name: value})


def test_a_role_that_is_not_there():
    with pytest.raises(UnsupportedRoleError, match="onion"):
        from_environment({**LEAST, "LAB_ROLE": "peer,onion"})


def test_a_server_with_an_address_only():
    settings = from_environment({**LEAST, "LAB_ROLE": "stun", "LAB_ADDRESSES": "45.0.0.2"})
    assert stun_sites(settings) == (Site("45.0.0.2", "", 3478, 3479),)
    with pytest.raises(SettingsError, match="LAB_ADDRESSES"):
        stun_sites(from_environment(LEAST))
