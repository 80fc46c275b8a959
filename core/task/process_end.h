/*
 * What happens when there is nothing left to run.
 */
#pragma once

/** process_init_ended() - number 1 has ended with @status: the machine is turned off. */
_Noreturn void process_init_ended(int status);
