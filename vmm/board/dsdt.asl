/*
 * What the guest's operating system is told about the board beyond the fixed tables: the PCI root,
 * who sits at which port, and how to switch the machine off. The C preprocessor reads it first.
 * Spec: ACPI 6.4, 5 and 6; PCI Firmware Specification 3.3, 4.5 "_OSC"
 */
#include "vmm/board/layout.h"

DefinitionBlock ("", "DSDT", 2, "YADO  ", "YADOVM  ", 1)
{
    /* SLP_TYP of PM1_CNT for "off". */
    Name (\_S5, Package (4) { LAYOUT_S5_SLEEPTYPE, 0, 0, 0 })

    /* The guest says which interrupt controller it uses; either one is fine. */
    Name (PICM, 0)
    Method (\_PIC, 1)
    {
        PICM = Arg0
    }

    Scope (\_SB)
    {
        /* Addresses that nobody may move a device to. */
        Device (BRD0)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, LAYOUT_ECAM, LAYOUT_ECAM_SIZE)
            })
        }

        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CCA, 1)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, PCI_LAST_BUS, 0, PCI_BUSES)
                IO (Decode16, PORT_PCI_ADDRESS, PORT_PCI_ADDRESS, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0000, 0x0cf7, 0, 0x0cf8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0d00, 0xffff, 0, 0xf300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, LAYOUT_PCI_MEM, LAYOUT_PCI_MEM_LAST, 0,
                    LAYOUT_PCI_MEM_SIZE)
            })

            /*
             * Of what the guest would like to control it gets the PCI Express capability structure
             * only: there are no ports to plug into, and nothing that reports errors.
             */
            Method (_OSC, 4)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    CreateDWordField (Arg3, 8, CDW3)
                    Local0 = CDW3
                    CDW3 &= 0x10
                    If (Arg1 != 1)
                    {
                        CDW1 |= 0x08 /* unknown revision */
                    }
                    If (Local0 != CDW3)
                    {
                        CDW1 |= 0x10 /* some were taken back */
                    }
                }
                Else
                {
                    CDW1 |= 0x04 /* unknown UUID */
                }
                Return (Arg3)
            }

            /* Pin p (0 to 3) of slot n is wired to GSI 16 + (n + p) % 8. */
            Method (_PRT, 0, Serialized)
            {
                Local0 = 0
                Local2 = Package (128) {}
                While (Local0 < 128)
                {
                    Local1 = Package (4) { 0, 0, 0, 0 }
                    Local1[0] = ((Local0 >> 2) << 16) | 0xffff
                    Local1[1] = Local0 & 3
                    Local1[3] = GSI_PCI + (((Local0 >> 2) + (Local0 & 3)) & (GSI_PCI_COUNT - 1))
                    Local2[Local0] = Local1
                    Local0++
                }
                Return (Local2)
            }

            Device (ISA)
            {
                Name (_ADR, SLOT_LPC << 16)

                Device (BRD1)
                {
                    Name (_HID, EisaId ("PNP0C02"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_PM_BASE, PORT_PM_BASE, 0, PORT_PM_LEN)
                        IO (Decode16, PORT_ELCR, PORT_ELCR, 0, 2)
                        IO (Decode16, PORT_DEBUG, PORT_DEBUG, 0, 1)
                    })
                }

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_PIC1, PORT_PIC1, 0, 2)
                        IO (Decode16, PORT_PIC2, PORT_PIC2, 0, 2)
                        IRQNoFlags () { 2 }
                    })
                }

                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_PIT, PORT_PIT, 0, 4)
                        IRQNoFlags () { 0 }
                    })
                }

                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_SPEAKER, PORT_SPEAKER, 0, 1)
                    })
                }

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_RTC, PORT_RTC, 0, 2)
                        IRQNoFlags () { GSI_RTC }
                    })
                }

                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_KBD_DATA, PORT_KBD_DATA, 0, 1)
                        IO (Decode16, PORT_KBD_STATUS, PORT_KBD_STATUS, 0, 1)
                        IRQNoFlags () { GSI_KBD }
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_COM1, PORT_COM1, 0, 8)
                        IRQNoFlags () { GSI_COM1 }
                    })
                }

                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_COM2, PORT_COM2, 0, 8)
                        IRQNoFlags () { GSI_COM2 }
                    })
                }

                /* Tells the VMM that the guest's kernel has panicked. */
                Device (PEVT)
                {
                    Name (_HID, "QEMU0001")
                    Name (_STA, 0x0f)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, PORT_PVPANIC, PORT_PVPANIC, 0, 1)
                    })
                }
            }
        }

        Device (FWCF)
        {
            Name (_HID, "QEMU0002")
            Name (_STA, 0x0b)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, PORT_FW_CFG, PORT_FW_CFG, 0, PORT_FW_CFG_LEN)
            })
        }
    }
}
