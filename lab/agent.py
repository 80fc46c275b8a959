"""The near end of lab/agent.c: programs in a lab host as objects of this process.

Agent(socket) starts programs and carries their streams; lab/agent.c describes the frames.
"""

import os
import signal
import struct
import threading
import time

HEADER = struct.Struct('<B3xII')
INPUT_MAX = 64 * 1024  # as in agent.c
FLAG_PTY = 1
FLAG_PTY_ERROR = 2


class Died(Exception):
    """The lab host ended or fell silent before it was told to. str() says why, in one line."""


def start_payload(argv, directory='', tty=False, error_on_tty=True, size=(24, 80)):
    flags = 0
    if tty:
        flags = FLAG_PTY | (FLAG_PTY_ERROR if error_on_tty else 0)
    strings = [os.fsencode(s) + b'\0' for s in [directory, *argv]]
    return struct.pack('<BHH', flags, *size) + b''.join(strings)


def frame(kind, number, payload=b''):
    return HEADER.pack(ord(kind), number, len(payload)) + payload


def exit_code(status):
    """What a shell would say of a wait() status: the exit code, or 128 and the signal."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self):
        self._rest = bytearray()

    def feed(self, data):
        self._rest += data
        while len(self._rest) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(self._rest)
            end = HEADER.size + length
            if len(self._rest) < end:
                return
            payload = bytes(self._rest[HEADER.size:end])
            del self._rest[:end]
            yield chr(kind), number, payload


class Program:
    """A program that the agent runs.

    on_output(stream, data), if given, is called for each piece with stream 'O' or 'E', in the
    agent's reader thread. Without it, the output collects in .output and .error.
    """

    def __init__(self, agent, number, on_output):
        self._agent = agent
        self._number = number
        self._on_output = on_output
        self._ahead = 0  # bytes of input sent and not yet taken
        self.output = bytearray()
        self.error = bytearray()
        self.code = None  # the exit code, once it has ended

    def write(self, data):
        """Sends input. Blocks while the program does not read. What comes after its end is lost."""
        data = memoryview(data)
        while data:
            with self._agent.changed:
                self._agent.wait_for(lambda: self.code is not None or self._ahead < INPUT_MAX)
                if self.code is not None:
                    return
                piece = data[:INPUT_MAX - self._ahead]
                self._ahead += len(piece)
            self._agent.send('I', self._number, bytes(piece))
            data = data[len(piece):]

    def close_input(self):
        self._agent.send('I', self._number)

    def kill(self, number=signal.SIGTERM):
        """Signals the program and those that it started, its process group."""
        self._agent.send('K', self._number, bytes([number]))

    def resize(self, rows, columns):
        self._agent.send('W', self._number, struct.pack('<HH', rows, columns))

    def wait(self, timeout=None):
        """Return: the exit code, or None when `timeout` seconds were not enough."""
        with self._agent.changed:
            self._agent.wait_for(lambda: self.code is not None, timeout)
            return self.code

    def wait_activity(self, timeout):
        """Waits until anything has happened in the lab host, `timeout` seconds at most."""
        with self._agent.changed:
            if self.code is None:
                self._agent.wait_for(self._agent.activity(), timeout)

    def _receive(self, kind, payload):
        if kind in 'OE' and self._on_output:
            self._on_output(kind, payload)
            return
        with self._agent.changed:
            if kind == 'O':
                self.output += payload
            elif kind == 'E':
                self.error += payload
            elif kind == 'A':
                self._ahead -= struct.unpack('<I', payload)[0]
            elif kind == 'S':
                self.code = exit_code(struct.unpack('<I', payload)[0])
            self._agent._received += 1
            self._agent.changed.notify_all()


class Agent:
    """The connection. `why_dead()` is asked for the reason when it breaks."""

    def __init__(self, connection, why_dead, silence_seconds):
        self._connection = connection
        self._why_dead = why_dead
        self._silence_seconds = silence_seconds
        self._sending = threading.Lock()
        self._programs = {}
        self._next = 1
        self._received = 0  # programs' frames
        self._heard = None  # when the last frame came; None before the first
        self._dead = None  # the reason
        self._closed = False
        self.changed = threading.Condition()
        threading.Thread(target=self._read, name='lab agent', daemon=True).start()

    def wait_for(self, condition, timeout=None):
        """With .changed held: waits until `condition()` holds. Return: whether it does.

        Raises Died when the lab host dies or has been silent for too long.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            if self._dead:
                raise Died(self._dead)
            now = time.monotonic()
            if self._heard is not None and now - self._heard > self._silence_seconds:
                self._dead = f'it has not answered for {self._silence_seconds} seconds'
                raise Died(self._dead)
            if deadline is not None and now >= deadline:
                return False
            self.changed.wait(1 if deadline is None else min(1, deadline - now))
        return True

    def activity(self):
        """With .changed held: a condition that holds once something has been received."""
        before = self._received
        return lambda: self._received != before

    def wait_ready(self, timeout):
        with self.changed:
            return self.wait_for(lambda: self._heard is not None, timeout)

    def start(self, argv, directory='', on_output=None, **terminal):
        """Starts a program; tty, error_on_tty and size as in start_payload()."""
        with self.changed:
            number = self._next
            self._next += 1
            program = Program(self, number, on_output)
            self._programs[number] = program
        self.send('X', number, start_payload(argv, directory, **terminal))
        return program

    def send(self, kind, number, payload=b''):
        try:
            with self._sending:
                self._connection.sendall(frame(kind, number, payload))
        except OSError:
            with self.changed:
                self.wait_for(lambda: False, 5)  # the reader finds out why
                raise Died('its connection is closed') from None

    def close(self):
        """Ends the agent, and with it all programs."""
        self._closed = True
        try:
            self.send('Q', 0)
        except Died:
            pass

    def _read(self):
        frames = Frames()
        try:
            while data := self._connection.recv(256 * 1024):
                self._heard = time.monotonic()
                for kind, number, payload in frames.feed(data):
                    self._dispatch(kind, number, payload)
        except OSError:
            pass
        reason = 'it was told to end' if self._closed else self._why_dead()
        with self.changed:
            self._dead = self._dead or reason
            self.changed.notify_all()

    def _dispatch(self, kind, number, payload):
        if kind == 'R':
            with self.changed:
                self.changed.notify_all()
        program = self._programs.get(number)
        if program:
            program._receive(kind, payload)
            if kind == 'S':
                del self._programs[number]
