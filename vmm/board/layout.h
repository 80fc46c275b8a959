/*
 * Where everything of the machine is: addresses, ports and interrupt wires, as on QEMU's q35.
 * The ACPI source (dsdt.asl) includes this file too, so it holds plain numbers only.
 *
 *	guest-physical
 *	0x0000000000 .. 0x000009fbff   RAM; the boot data below lie in it
 *	0x000009fc00 .. 0x00000fffff   reserved: EBDA, VGA, BIOS area with the ACPI tables
 *	0x0000100000 .. low end        RAM (low end: at most 0xb0000000)
 *	0x00b0000000 .. 0x00bfffffff   PCI Express configuration space (ECAM)
 *	0x00c0000000 .. 0x00febfffff   PCI memory window
 *	0x00fec00000                   IOAPIC
 *	0x00fee00000                   local APICs
 *	0x00feffc000 .. 0x00feffffff   pages that KVM takes on Intel hosts
 *	0x0100000000 ..                RAM
 */
#pragma once

/* RAM: all of it is low if it ends before the hole; else 2 GiB are low and the rest is high. */
#define LAYOUT_LOW_RAM_MAX   0xb0000000
#define LAYOUT_LOW_RAM_SPLIT 0x80000000
#define LAYOUT_HIGH_RAM	     0x100000000

/* Below 1 MiB. */
#define LAYOUT_BOOT_GDT	     0x6000
#define LAYOUT_BOOT_PARAMS   0x7000 /* Linux: the zero page */
#define LAYOUT_PVH_INFO	     0x8000 /* PVH: start info, modules, memory map */
#define LAYOUT_BOOT_PAGES    0x9000 /* identity page tables: six pages */
#define LAYOUT_CMDLINE	     0x20000
#define LAYOUT_CMDLINE_SIZE  0x10000 /* with the terminating zero */
#define LAYOUT_EBDA	     0x9fc00
#define LAYOUT_ACPI	     0xe0000
#define LAYOUT_ACPI_SIZE     0x20000
#define LAYOUT_KERNEL_LOWEST 0x100000

/* Between low and high RAM. */
#define LAYOUT_ECAM	    0xb0000000
#define LAYOUT_ECAM_SIZE    0x10000000
#define LAYOUT_PCI_MEM	    0xc0000000
#define LAYOUT_PCI_MEM_SIZE 0x3ec00000
#define LAYOUT_PCI_MEM_LAST 0xfebfffff
#define LAYOUT_IOAPIC	    0xfec00000
#define LAYOUT_LAPIC	    0xfee00000
#define LAYOUT_KVM_IDENTITY 0xfeffc000 /* one page: KVM_SET_IDENTITY_MAP_ADDR */
#define LAYOUT_KVM_TSS	    0xfeffd000 /* three pages: KVM_SET_TSS_ADDR */
#define LAYOUT_KVM_PAGES    0x4000     /* bytes of the two together */

/* Ports. */
#define PORT_PIC1	   0x20
#define PORT_PIT	   0x40
#define PORT_KBD_DATA	   0x60
#define PORT_SPEAKER	   0x61
#define PORT_KBD_STATUS	   0x64 /* commands too */
#define PORT_RTC	   0x70
#define PORT_POST	   0x80 /* codes of firmware */
#define PORT_92		   0x92 /* system control port A */
#define PORT_PIC2	   0xa0
#define PORT_COM2	   0x2f8
#define PORT_COM1	   0x3f8
#define PORT_DEBUG	   0x402 /* characters of firmware */
#define PORT_ELCR	   0x4d0
#define PORT_PVPANIC	   0x505
#define PORT_FW_CFG	   0x510
#define PORT_FW_CFG_LEN	   12
#define PORT_PM_BASE	   0x600 /* ICH9 PMBASE, 128 bytes: */
#define PORT_PM_LEN	   0x80
#define PORT_PM1A_EVT	   0x600
#define PORT_PM1A_CNT	   0x604
#define PORT_PM_TMR	   0x608
#define PORT_GPE0	   0x620
#define PORT_GPE0_LEN	   16
#define PORT_PCI_ADDRESS   0xcf8
#define PORT_RESET_CONTROL 0xcf9

/* What a write to the reset control register and to SLP_TYP of PM1_CNT has to say. */
#define RESET_CONTROL_FULL  0x0f
#define LAYOUT_S5_SLEEPTYPE 5

/* Interrupt wires, by global system interrupt (GSI). */
#define GSI_KBD	      1
#define GSI_PIT	      2 /* ISA IRQ 0 */
#define GSI_COM2      3
#define GSI_COM1      4
#define GSI_RTC	      8
#define GSI_SCI	      9
#define GSI_PCI	      16 /* the first of eight: slot n, pin p (0 to 3) is 16 + (n + p) % 8 */
#define GSI_PCI_COUNT 8
#define RTC_CENTURY   0x32 /* CMOS byte */
#define PCI_BUSES     1	   /* no bridges; Linux probes each slot of each bus that there may be */
#define PCI_LAST_BUS  0
#define SLOT_HOST     0x00 /* PCI: host bridge */
#define SLOT_LPC      0x1f /* PCI: ICH9 LPC bridge */
