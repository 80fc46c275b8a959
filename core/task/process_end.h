/*
 * How the machine ends: when number 1 does, or by reboot().
 */
#pragma once

/** process_init_ended() - number 1 has ended with @status: the machine is turned off. */
_Noreturn void process_init_ended(int status);
