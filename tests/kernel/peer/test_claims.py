"""Link-local addresses (RFC 3927) by real ARP packets: what is on the wire, and who yields."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel.peer.segment import Segment
from tests.kernel.peer.wild import PATIENT, run

pytestmark = pytest.mark.kernel

HOSTS = ("alice", "bob", "carol", "dave")
WANTED = "169.254.7.7"
SAID = re.compile(r"(\S{17}) > ff:ff:.* who-has (\S+) .*tell (\S+), ", re.MULTILINE)
"""A broadcast as tcpdump writes it: by whom, about which address, and whose it is said to be."""
PROBE, ANNOUNCEMENT = "probe", "announcement"

# Says to all that an address is that of the sender's interface; "probe": would like to have it.
CLAIM = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
sock.bind(("eth0", 0x0806))
mac, address = sock.getsockname()[4], socket.inet_aton(sys.argv[1])
own = bytes(4) if sys.argv[2:] else address
packet = bytes.fromhex("0001080006040001") + mac + own + bytes(6) + address
sock.sendto(packet, ("eth0", 0x0806, 0, 0, b"\\xff" * 6))
"""


def claiming(segment, host, first=WANTED):
    # The same seed for all: that they draw differently is by their MACs alone.
    return segment.start(host, sys.executable, "-m", "lab.peer.lan.claiming", "eth0", "1", first)


def autoipd(segment, host):
    """avahi-autoipd, which wants that address first, with a /run of its own."""
    daemon = f"avahi-autoipd --no-drop-root --no-chroot --no-proc-title --start={WANTED} eth0"
    own = f"mount -t tmpfs none /run && exec {daemon}"
    return segment.start(host, "unshare", "-m", "sh", "-c", own)


def forge(segment, host, *words):
    run(
        " ".join(segment.inside(host, sys.executable, "-c", "exec(input())", *words)),
        input=f"exec({CLAIM!r})\n",
    )


def claimed(program, number=1):
    """The address of that number that it came to have."""
    return program.until(rf"(?s)(?:.*?^(\S+) is this host's){{{number}}}")[1]


def addresses(segment, host):
    (link,) = json.loads(run(f"ip -n {segment.space(host)} -j -4 addr show dev eth0"))
    return [one["local"] for one in link["addr_info"]]


def mac(segment, host):
    return json.loads(run(f"ip -n {segment.space(host)} -j link show dev eth0"))[0]["address"]


def said(capture, by=None):
    """What was said to all, in order: probe or announcement, and of which address."""
    return [
        (ANNOUNCEMENT if whose == about else PROBE, about)
        for who, about, whose in SAID.findall(capture.text)
        if by in (None, who)
    ]


def until_said(capture, kind, address, times=1):
    whose = address if kind == ANNOUNCEMENT else "0.0.0.0"
    line = re.escape(f"who-has {address} tell {whose},")
    capture.until(rf"(?s)(?:{line}.*?){{{times}}}")


def a_claim_is_three_probes_and_two_announcements(segment, tmp_path):
    capture = segment.listen("arp")
    alice = claiming(segment, "alice")
    assert claimed(alice) == WANTED
    until_said(capture, ANNOUNCEMENT, WANTED, times=2)
    assert said(capture) == [(PROBE, WANTED)] * 3 + [(ANNOUNCEMENT, WANTED)] * 2
    assert addresses(segment, "alice") == [WANTED]


def of_four_who_want_one_address_at_once_none_has_anothers(segment, tmp_path):
    capture = segment.listen("arp")
    programs = {host: claiming(segment, host) for host in HOSTS}
    owned = {host: claimed(program) for host, program in programs.items()}
    assert len(set(owned.values())) == len(HOSTS), owned
    for host, address in owned.items():
        assert addresses(segment, host) == [address]
        until_said(capture, ANNOUNCEMENT, address)
    for host, address in owned.items():
        mine = said(capture, mac(segment, host))
        # What it has it probed for three times before, and it announced nothing else.
        first = mine.index((ANNOUNCEMENT, address))
        assert mine[first - 3 : first] == [(PROBE, address)] * 3
        assert {about for kind, about in mine if kind == ANNOUNCEMENT} == {address}


def who_probes_for_it_at_the_same_time_sends_a_claim_elsewhere(segment, tmp_path):
    capture = segment.listen("arp")
    alice = claiming(segment, "alice")
    until_said(capture, PROBE, WANTED)
    forge(segment, "bob", WANTED, "probe")
    other = claimed(alice)
    assert other != WANTED
    until_said(capture, ANNOUNCEMENT, other)
    mine = said(capture, mac(segment, "alice"))
    assert (ANNOUNCEMENT, WANTED) not in mine
    assert mine.count((PROBE, other)) == 3


def an_address_is_defended_once_and_then_left_for_another(segment, tmp_path):
    capture = segment.listen("arp")
    alice = claiming(segment, "alice")
    assert claimed(alice) == WANTED
    until_said(capture, ANNOUNCEMENT, WANTED, times=2)
    own = mac(segment, "alice")
    forge(segment, "bob", WANTED)
    # Bob's claim, and the defence.
    until_said(capture, ANNOUNCEMENT, WANTED, times=4)
    assert said(capture, own)[-1] == (ANNOUNCEMENT, WANTED)
    assert addresses(segment, "alice") == [WANTED]
    # A second one within ten seconds: "it must cease using this address" (section 2.5).
    forge(segment, "bob", WANTED)
    other = claimed(alice, 2)
    assert other != WANTED
    assert addresses(segment, "alice") == [other]
    until_said(capture, ANNOUNCEMENT, other)
    mine = said(capture, own)
    assert mine.count((ANNOUNCEMENT, WANTED)) == 3
    assert mine.count((PROBE, other)) == 3


def who_starts_again_has_what_it_had(segment, tmp_path):
    first = claiming(segment, "alice")
    assert claimed(first) == WANTED
    first.stop()
    # The address stays, and goes before another that is wanted.
    assert claimed(claiming(segment, "alice", "169.254.9.9")) == WANTED
    assert addresses(segment, "alice") == [WANTED]


def what_avahi_autoipd_has_is_left_to_it(segment, tmp_path):
    theirs = autoipd(segment, "alice")
    assert theirs.until(r"Callout BIND, address (\S+) on")[1] == WANTED
    ours = claimed(claiming(segment, "bob"))
    assert ours != WANTED
    assert [addresses(segment, host) for host in ("alice", "bob")] == [[WANTED], [ours]]


def what_is_had_is_not_taken_by_avahi_autoipd(segment, tmp_path):
    assert claimed(claiming(segment, "bob")) == WANTED
    theirs = autoipd(segment, "alice").until(r"Callout BIND, address (\S+) on")[1]
    assert theirs != WANTED
    assert addresses(segment, "bob") == [WANTED]


def a_peer_goes_by_the_address_that_was_claimed_for_its_host(segment, tmp_path):
    claimers = {host: claiming(segment, host) for host in ("alice", "bob")}
    before = {host: claimed(claimer) for host, claimer in claimers.items()}
    alice, bob = (segment.peer(tmp_path, host) for host in ("alice", "bob"))
    (record,) = alice.connect("bob", "lan", **PATIENT)
    assert record["remote_candidate"]["endpoint"].startswith(f"{before['bob']}:")
    assert bob.event("named")["name"] == "bob.local"
    for _ in range(2):
        forge(segment, "carol", before["bob"])
    after = claimed(claimers["bob"], 2)
    assert bob.event("readdressed")["addresses"] == [after]
    assert bob.event("named")["name"] == "bob.local"
    (record,) = alice.connect("bob", "lan", **PATIENT)
    assert record["remote_candidate"]["endpoint"].startswith(f"{after}:")


SCENARIOS = (
    a_claim_is_three_probes_and_two_announcements,
    of_four_who_want_one_address_at_once_none_has_anothers,
    who_probes_for_it_at_the_same_time_sends_a_claim_elsewhere,
    an_address_is_defended_once_and_then_left_for_another,
    who_starts_again_has_what_it_had,
    what_avahi_autoipd_has_is_left_to_it,
    what_is_had_is_not_taken_by_avahi_autoipd,
    a_peer_goes_by_the_address_that_was_claimed_for_its_host,
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """All scenarios at once, as nearly all that they do is to wait for as long as the RFC says."""

    def play(scenario, folder):
        # Four hosts without any address, for this one alone.
        with Segment(*HOSTS) as segment:
            scenario(segment, folder)

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {each: pool.submit(play, each, tmp_path_factory.mktemp("c")) for each in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_claims(outcomes, scenario):
    outcomes[scenario].result()
