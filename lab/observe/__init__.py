"""What a running lab looks like: metrics, health, status, drawings, and the machine under it.

Everything here reads and nothing changes the lab or sends a packet into it;
the one exception is `doctor.repair`, which installs packages.  Data comes from
the plan, the state folder and the kernel; how it is printed is decided here,
when it is printed by the command line.
"""
